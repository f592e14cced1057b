//! Integers of SQLite are signed, and its errors know no file but its own: these lines are the border.

use std::io;

use rusqlite::Row;

/// To a column.
pub(crate) fn int(value: u64) -> i64 {
    value.cast_signed()
}

/// From a column.
pub(crate) fn uint(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}

/// An error of a file beside the database, on the way of the database's own; [`super::fault::of`] finds it.
pub(crate) fn io(error: io::Error) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(Box::new(error))
}

/// Whether it is one of those.
pub(crate) fn is_io(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::ToSqlConversionFailure(_))
}
