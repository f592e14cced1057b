//! All entries on standard output: the images have no shell that could pack a folder.

use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use zen_audit::verify::files;

/// Writes the lines of every chain below the folder, chain by chain, whole ones only: the store may be writing.
///
/// # Errors
///
/// When they cannot be read or written.
pub fn export(data: &Path) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut written = Ok(());
    for file in files::expand(&[data.to_owned()]).map_err(io::Error::other)? {
        let read = files::lines(&file, |_, line, whole| {
            if whole && written.is_ok() {
                written = out.write_all(line).and_then(|()| out.write_all(b"\n"));
            }
        });
        read.map_err(io::Error::other)?;
    }
    written?;
    out.flush()
}
