//! Integers of SQLite are signed: these two lines are the border.

use rusqlite::Row;

/// To a column.
pub(crate) fn int(value: u64) -> i64 {
    value.cast_signed()
}

/// From a column.
pub(crate) fn uint(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}
