//! The tables, and the version of them.
//!
//! An accepted event costs one append to `event` and one to `ready` for each destination; an acknowledgement deletes
//! the same rows. Everything that a batch of them has in common (claims, history, counters) is one row a batch.

/// Kept in `user_version`. A newer one is refused, an older one is carried on.
pub(crate) const VERSION: i64 = 3;

/// Marks the file as ours (`application_id`): `ZenQ`.
pub(crate) const APPLICATION: i64 = 0x5A65_6E51;

pub(crate) const CREATE: &str = "
CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE webhook(id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, bytes INTEGER NOT NULL DEFAULT 0);
CREATE TABLE destination(id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE);

-- refs: deliveries that wait or are dead; the row goes with the last. dests: their numbers, 4 bytes each, big endian.
CREATE TABLE event(
  seq INTEGER PRIMARY KEY, webhook INTEGER NOT NULL, id TEXT NOT NULL, at INTEGER NOT NULL,
  dests BLOB NOT NULL, refs INTEGER NOT NULL, record BLOB NOT NULL);

-- Waits for its first attempt, in the order of acceptance.
CREATE TABLE ready(
  dest INTEGER NOT NULL, seq INTEGER NOT NULL, at INTEGER NOT NULL, bytes INTEGER NOT NULL, webhook INTEGER NOT NULL,
  PRIMARY KEY(dest, seq)) WITHOUT ROWID;

-- In back-off, or due again after a lost lease or a replay.
CREATE TABLE retry(
  dest INTEGER NOT NULL, due INTEGER NOT NULL, seq INTEGER NOT NULL, at INTEGER NOT NULL, bytes INTEGER NOT NULL,
  webhook INTEGER NOT NULL, attempts INTEGER NOT NULL, first INTEGER, lost INTEGER NOT NULL,
  PRIMARY KEY(dest, due, seq)) WITHOUT ROWID;

CREATE TABLE dead(
  dest INTEGER NOT NULL, seq INTEGER NOT NULL, since INTEGER NOT NULL, reason INTEGER NOT NULL,
  attempts INTEGER NOT NULL, at INTEGER NOT NULL, bytes INTEGER NOT NULL, webhook INTEGER NOT NULL,
  status INTEGER NOT NULL, error TEXT, PRIMARY KEY(dest, seq)) WITHOUT ROWID;
CREATE INDEX dead_since ON dead(since, seq, dest);
-- The beginning of the last response, sealed.
CREATE TABLE response(dest INTEGER NOT NULL, seq INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY(dest, seq)) WITHOUT ROWID;

-- Begun and not settled (idempotent: false).
CREATE TABLE started(dest INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY(dest, seq)) WITHOUT ROWID;

-- The claims of one Webhook in one batch.
CREATE TABLE claims(id INTEGER PRIMARY KEY, webhook INTEGER NOT NULL, expires INTEGER NOT NULL, body BLOB NOT NULL);

-- The history of one batch, sealed. seq: the highest that was given out; the last row outlives trimming.
CREATE TABLE journal(batch INTEGER PRIMARY KEY, at INTEGER NOT NULL, seq INTEGER NOT NULL, body BLOB NOT NULL);
";

/// From version 1 to 2: what comes from other replicas.
pub(crate) const HANDOVER: &str = "
-- Queues that events came from, by their 16 bytes.
CREATE TABLE origin(id INTEGER PRIMARY KEY, queue BLOB NOT NULL UNIQUE);

-- Deliveries that were adopted: under oseq their event was accepted by the queue origin, under seq it is here. hops: how
-- often it had been handed over with this time. Rows outlive the deliveries, so that a page that comes twice is known.
CREATE TABLE adopted(
  origin INTEGER NOT NULL, oseq INTEGER NOT NULL, dest INTEGER NOT NULL, seq INTEGER NOT NULL, hops INTEGER NOT NULL,
  at INTEGER NOT NULL, PRIMARY KEY(origin, oseq, dest)) WITHOUT ROWID;
CREATE INDEX adopted_here ON adopted(seq, dest);
CREATE INDEX adopted_at ON adopted(at);

-- Waiting deliveries on their way to a peer, and the due time of those in back-off: after a crash they may be there.
CREATE TABLE handing(dest INTEGER NOT NULL, seq INTEGER NOT NULL, due INTEGER, PRIMARY KEY(dest, seq)) WITHOUT ROWID;
";

/// From version 2 to 3: large records beside the database. The record's place stands in `event.record` in its stead.
pub(crate) const BODIES: &str = "
CREATE TABLE body(
  segment INTEGER NOT NULL, start INTEGER NOT NULL, length INTEGER NOT NULL, seq INTEGER NOT NULL,
  PRIMARY KEY(segment, start)) WITHOUT ROWID;
";
