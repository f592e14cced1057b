//! What every watch says of itself: once that it fails, once that it goes on. What was seen last stays in force meanwhile.

use kube::runtime::watcher;

/// A watch and how it does.
#[derive(Debug)]
pub struct Watched<'a> {
    what: &'a str,
    is_failing: bool,
}

impl<'a> Watched<'a> {
    /// `what` is watched: a kind, or the name of an object.
    pub fn new(what: &'a str) -> Self {
        Self { what, is_failing: false }
    }

    /// What the watch tells; none when it fails, for it goes on by itself.
    pub fn heard<T>(&mut self, told: watcher::Result<T>) -> Option<T> {
        match told {
            Ok(told) => {
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!(watch = self.what, "the watch goes on");
                }
                return Some(told);
            }
            // One that ran out is begun anew at once; that is no failure.
            Err(watcher::Error::WatchError(status)) if status.code == 410 => {}
            Err(error) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(watch = self.what, %error, "a watch fails; what was seen last stays in force");
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn failure(code: u16) -> watcher::Result<()> {
        let status = Status { code, ..Status::failure("away", "Unavailable") };
        Err(watcher::Error::WatchError(Box::new(status)))
    }

    #[test]
    fn a_failure_is_one_until_something_is_heard() {
        let mut watched = Watched::new("Secret");
        assert_eq!((watched.heard(failure(410)), watched.is_failing), (None, false), "begun anew");
        assert_eq!((watched.heard(failure(503)), watched.is_failing), (None, true));
        assert_eq!((watched.heard(failure(410)), watched.is_failing), (None, true), "not heard yet");
        assert_eq!((watched.heard(Ok(())), watched.is_failing), (Some(()), false));
    }
}
