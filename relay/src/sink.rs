//! Where event listeners' copies go: a trait, and its first driver, lines of JSON in a file or on standard output
//! (`event-handlers` §9).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Takes events of one listener. It may block: it is called on a thread of the listener's own.
pub trait EventSink: Send {
    /// Delivers events, each a line of JSON with its end, in order.
    ///
    /// # Errors
    /// When not all of them were delivered; they are not given again.
    fn deliver(&mut self, lines: &[u8]) -> io::Result<()>;
}

/// A file that is appended to, and opened anew once somebody moved it away.
#[derive(Debug)]
pub(crate) struct FileSink {
    path: PathBuf,
    file: Option<File>,
    /// The last write ended within a line.
    is_torn: bool,
}

impl FileSink {
    /// Opens or makes the file.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        Ok(Self { path: path.to_owned(), file: Some(file), is_torn: false })
    }

    /// The file that has the name now.
    fn current(&mut self) -> io::Result<&mut File> {
        if !self.file.as_ref().is_some_and(|file| is_at(file, &self.path)) {
            self.file = Some(open(&self.path)?);
            self.is_torn = false;
        }
        self.file.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl EventSink for FileSink {
    fn deliver(&mut self, lines: &[u8]) -> io::Result<()> {
        let is_torn = self.is_torn;
        let file = self.current()?;
        let mut rest = lines;
        if is_torn {
            // Readers see one line that is none, and no more.
            file.write_all(b"\n")?;
        }
        let outcome = loop {
            match file.write(rest) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => rest = &rest[n..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
            if rest.is_empty() {
                break Ok(());
            }
        };
        let written = lines.len() - rest.len();
        self.is_torn = if written == 0 { is_torn && outcome.is_err() } else { lines[written - 1] != b'\n' };
        outcome
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// Whether a file still has its name.
fn is_at(file: &File, path: &Path) -> bool {
    let same = |a: &std::fs::Metadata, b: &std::fs::Metadata| a.dev() == b.dev() && a.ino() == b.ino();
    matches!((file.metadata(), std::fs::metadata(path)), (Ok(a), Ok(b)) if same(&a, &b))
}

/// Standard output.
#[derive(Debug)]
pub(crate) struct StdoutSink;

impl EventSink for StdoutSink {
    fn deliver(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(lines)?;
        stdout.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("ringhub-sink-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew() {
        let directory = directory("moved");
        let path = directory.join("events");
        fs::write(&path, "old\n").unwrap();
        let mut sink = FileSink::open(&path).unwrap();
        sink.deliver(b"a\n").unwrap();
        fs::rename(&path, directory.join("events.1")).unwrap();
        sink.deliver(b"b\n").unwrap();
        // Truncated in place: the same file still.
        fs::write(&path, "").unwrap();
        sink.deliver(b"c\n").unwrap();
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(sink.deliver(b"lost\n").is_err());
        fs::remove_dir(&path).unwrap();
        sink.deliver(b"d\n").unwrap();
        assert_eq!(fs::read_to_string(directory.join("events.1")).unwrap(), "old\na\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "d\n");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_an_error_at_once() {
        assert!(FileSink::open(Path::new("/nowhere/at/all")).is_err());
    }
}
