//! up
mod narrate;
mod printer;
mod trust;
