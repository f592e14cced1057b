//! Statements that a batch executes for each of its events: looked up once a batch, not once an event.

use rusqlite::{CachedStatement, Connection};

/// One statement, found on first use.
pub(crate) struct Hot<'a> {
    sql: &'static str,
    statement: Option<CachedStatement<'a>>,
}

impl<'a> Hot<'a> {
    pub(crate) const fn new(sql: &'static str) -> Self {
        Self { sql, statement: None }
    }

    pub(crate) fn on(&mut self, conn: &'a Connection) -> rusqlite::Result<&mut CachedStatement<'a>> {
        let found = match self.statement.take() {
            Some(statement) => statement,
            None => conn.prepare_cached(self.sql)?,
        };
        Ok(self.statement.insert(found))
    }
}
