//! A program from its first thread to its last.

use std::io;

use tokio::runtime::Builder;

/// Runs `main` on a runtime of its own, to its end: tasks that nothing waits for any more do not hold the process up.
///
/// # Errors
/// The system gives no threads.
pub fn run<T>(main: impl Future<Output = T>) -> io::Result<T> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(main);
    runtime.shutdown_background();
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    #[test]
    fn what_nothing_waits_for_holds_nothing_up() {
        let (release, held) = mpsc::channel::<()>();
        let (begun, begins) = mpsc::channel();
        let ended = super::run(async move {
            let blocked = tokio::task::spawn_blocking(move || {
                begun.send(()).expect("heard");
                held.recv().ok()
            });
            drop(blocked);
            begins.recv().expect("begun");
            7
        });
        assert_eq!(ended.expect("threads"), 7);
        drop(release);
    }
}
