use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Segment, file_name};

/// A moment of an append, for tests that break or end things there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Nothing is written yet.
    Write,
    /// Half is written.
    Half,
    /// All is written, nothing is durable.
    Sync,
    /// All is durable, nobody knows.
    Durable,
}

/// Is asked at each [`Point`]; an error is taken for one of the disk's.
pub trait Steps: Send + Sync {
    /// # Errors
    ///
    /// The one that the disk is to have.
    fn at(&self, point: Point) -> io::Result<()>;
}

/// The end of a chain's last file.
pub struct Appender {
    segment: Segment,
    file: File,
    /// A write or a sync failed: what lies beyond the durable end has to go before anything is written again.
    dirty: bool,
    steps: Option<Arc<dyn Steps>>,
}

impl Appender {
    /// A new file that begins with the entry `first`, in a folder below `root` that is made where there is none; durable
    /// on return.
    ///
    /// # Errors
    ///
    /// When it cannot be made, or has content already.
    pub fn create(root: &Path, folder: &Path, first: u64, steps: Option<Arc<dyn Steps>>) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let path = folder.join(file_name(first));
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        if file.metadata()?.len() > 0 {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} has entries", path.display())));
        }
        sync_folders(root, folder)?;
        Ok(Self { segment: Segment { first, path, bytes: 0 }, file, dirty: false, steps })
    }

    /// The end of a file whose durable content ends at `segment.bytes`: what is beyond it goes.
    ///
    /// # Errors
    ///
    /// When it cannot be opened, or is shorter.
    pub fn open(segment: Segment, steps: Option<Arc<dyn Steps>>) -> io::Result<Self> {
        let file = open(&segment.path)?;
        let mut appender = Self { segment, file, dirty: true, steps };
        appender.mend()?;
        Ok(appender)
    }

    /// Appends; durable on return. After an error nothing of it is there: at the latest the next append sees to that.
    ///
    /// # Errors
    ///
    /// When it cannot be made durable. [`io::ErrorKind::InvalidData`] or [`io::ErrorKind::NotFound`]: the file is not what
    /// was written.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.dirty {
            self.file = open(&self.segment.path)?;
            self.mend()?;
        }
        let found = self.file.metadata()?;
        if found.nlink() == 0 {
            let text = format!("{} was removed", self.segment.path.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        if found.len() != self.segment.bytes {
            let text = format!("{} was changed by somebody else", self.segment.path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        self.dirty = true;
        self.at(Point::Write)?;
        if self.steps.is_some() {
            // Within an entry: halves of two entries of one length would end it.
            let half = bytes.len() / 2;
            let half = if half > 0 && bytes[half - 1] == b'\n' { half - 1 } else { half };
            let (one, other) = bytes.split_at(half);
            self.file.write_all(one)?;
            self.at(Point::Half)?;
            self.file.write_all(other)?;
        } else {
            self.file.write_all(bytes)?;
        }
        self.at(Point::Sync)?;
        self.file.sync_data()?;
        self.dirty = false;
        self.segment.bytes += bytes.len() as u64;
        // Nothing that happens now takes it back.
        let _ = self.at(Point::Durable);
        Ok(())
    }

    /// The file, and how much of it is durable.
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// Whether all that was written is durable.
    pub fn is_clean(&self) -> bool {
        !self.dirty
    }

    /// Cuts off what is not durable. After a failed sync nobody knows which pages are on the disk, so that nothing but
    /// writing them again helps.
    fn mend(&mut self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        if length < self.segment.bytes {
            let text = format!("{} was cut", self.segment.path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        if length > self.segment.bytes {
            self.file.set_len(self.segment.bytes)?;
            self.file.sync_data()?;
        }
        self.dirty = false;
        Ok(())
    }

    fn at(&self, point: Point) -> io::Result<()> {
        self.steps.as_ref().map_or(Ok(()), |steps| steps.at(point))
    }
}

fn open(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().append(true).open(path)
}

/// Makes the names durable: of the file in its folder, and of each folder up to the root's.
fn sync_folders(root: &Path, folder: &Path) -> io::Result<()> {
    let mut at = Some(folder);
    while let Some(folder) = at {
        File::open(folder)?.sync_all()?;
        if folder == root {
            break;
        }
        at = folder.parent();
    }
    Ok(())
}
