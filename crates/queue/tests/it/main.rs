//! The embedded queue from outside.

mod conforms;
