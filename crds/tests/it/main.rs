//! Tests of the API types.

mod generated;
