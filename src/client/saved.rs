//! A copy in a file, so that a client that starts again resumes instead of listing anew.
//!
//! Entry points: [`save`], [`load`].
//!
//! ```text
//!  "OIDMCOPY" · format (u32) · frames · 0 (u32) · checksum (u64)      all numbers little-endian
//!  frame = length (u32, not 0) · bytes; the first one names server and org, the others are events of a stream
//! ```
//! The events are those that a server would send: policy, coverage, rows, held names, the end of a snapshot, a checkpoint.
//! They are read by the very code that reads a stream.
//!
//! Invariants:
//! - A file is whole or is not there: it is written beside its place and moved. Only its owner can read it.
//! - A file of another server or org, of another format, or one that is damaged, is refused, and the copy is listed anew.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use okta_idmap_proto::limits::RESPONSE_BYTES_MAX;
use okta_idmap_proto::v1;
use prost::Message as _;
use xxhash_rust::xxh3::Xxh3;

use super::mirror::{Draft, Mirror, MirrorError, Step};

const MAGIC: &[u8; 8] = b"OIDMCOPY";

/// Grows when older versions could not read the file; they list anew then.
const FORMAT: u32 = 1;

/// Why a copy cannot be saved or loaded.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The file cannot be used.
    #[error("use {path}", path = .path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file is none of ours, of another format, cut short, or changed.
    #[error("{path} is no copy that this version can read: {what}", path = .path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// The copy is of another server or org.
    #[error("{path} is a copy of another server or org", path = .path.display())]
    Foreign {
        /// Which.
        path: PathBuf,
    },
    /// Something has panicked meanwhile: a bug, told on standard error.
    #[error("use {path}: something has panicked", path = .path.display())]
    Panicked {
        /// What was touched.
        path: PathBuf,
    },
    /// What is in the file cannot be used, or not any more.
    #[error("{path} holds a copy that cannot be used", path = .path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: MirrorError,
    },
}

/// What a copy is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) url: String,
    pub(super) org: String,
}

impl Source {
    fn bytes(&self) -> Vec<u8> {
        format!("{}\n{}", self.url, self.org).into_bytes()
    }
}

struct Out<W> {
    to: W,
    hash: Xxh3,
}

impl<W: io::Write> Out<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.to.write_all(bytes)
    }

    fn frame(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > RESPONSE_BYTES_MAX {
            return Err(io::Error::other("an event is longer than could be read again"));
        }
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.put(&length.to_le_bytes())?;
        self.put(bytes)
    }
}

/// Writes a copy. Blocks.
pub(super) fn save(path: &Path, source: &Source, mirror: &Mirror) -> Result<(), SaveError> {
    let beside = beside(path);
    let written = write(&beside, source, mirror).and_then(|()| fs::rename(&beside, path));
    written.map_err(|source| {
        // What is half written is of no use; that it cannot be removed changes nothing.
        let _ = fs::remove_file(&beside);
        SaveError::Io { path: path.to_owned(), source }
    })
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

fn write(path: &Path, source: &Source, mirror: &Mirror) -> io::Result<()> {
    let file = create_private(path)?;
    let mut out = Out { to: BufWriter::new(file), hash: Xxh3::new() };
    out.put(MAGIC)?;
    out.put(&FORMAT.to_le_bytes())?;
    out.frame(&source.bytes())?;
    let mut failed = Ok(());
    mirror.for_each_event(&mut |event: v1::ChangeEvent| {
        failed = out.frame(&event.encode_to_vec());
        failed.is_ok()
    });
    failed?;
    out.put(&0_u32.to_le_bytes())?;
    let checksum = out.hash.digest();
    out.to.write_all(&checksum.to_le_bytes())?;
    out.to.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

#[cfg(unix)]
fn create_private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    // A file that is left over may be readable by others.
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(not(unix))]
fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).open(path)
}

struct In<R> {
    from: R,
    hash: Xxh3,
}

impl<R: io::Read> In<R> {
    fn take(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.from.read_exact(bytes)?;
        self.hash.update(bytes);
        Ok(())
    }

    fn number(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.take(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// The next frame; `None` behind the last one.
    fn frame(&mut self) -> io::Result<Option<Vec<u8>>> {
        let length = usize::try_from(self.number()?).map_err(io::Error::other)?;
        if length == 0 {
            return Ok(None);
        }
        if length > RESPONSE_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = vec![0; length];
        self.take(&mut bytes)?;
        Ok(Some(bytes))
    }
}

/// Reads a copy; `None`: there is no file. Blocks.
pub(super) fn load(path: &Path, source: &Source, rows_max: usize) -> Result<Option<Mirror>, SaveError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(SaveError::Io { path: path.to_owned(), source: error }),
    };
    let damaged = |what| SaveError::Damaged { path: path.to_owned(), what };
    let unread = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged("it ends too early"),
        io::ErrorKind::InvalidData => damaged("a frame is too long"),
        _ => SaveError::Io { path: path.to_owned(), source: error },
    };
    let mut input = In { from: BufReader::new(file), hash: Xxh3::new() };
    let mut magic = [0; MAGIC.len()];
    input.take(&mut magic).map_err(unread)?;
    if &magic != MAGIC {
        return Err(damaged("it begins with something else"));
    }
    if input.number().map_err(unread)? != FORMAT {
        return Err(damaged("it has another format"));
    }
    if input.frame().map_err(unread)?.as_deref() != Some(source.bytes().as_slice()) {
        return Err(SaveError::Foreign { path: path.to_owned() });
    }
    let unusable = |source| SaveError::Unusable { path: path.to_owned(), source };
    let mut draft = Draft::listing(rows_max);
    let mut change = None;
    while let Some(frame) = input.frame().map_err(unread)? {
        let event = v1::ChangeEvent::decode(frame.as_slice()).map_err(|_| damaged("a frame is no event"))?;
        match draft.apply(event).map_err(unusable)? {
            Step::Publish(whole) if change.is_none() => change = Some(whole),
            Step::More if change.is_none() => {}
            _ => return Err(damaged("an event stands where it does not belong")),
        }
    }
    let checksum = input.hash.digest();
    let mut bytes = [0; 8];
    input.from.read_exact(&mut bytes).map_err(unread)?;
    if u64::from_le_bytes(bytes) != checksum {
        return Err(damaged("the checksum differs"));
    }
    let change = change.ok_or_else(|| damaged("it has no checkpoint"))?;
    let mut mirror = None;
    change.make(&mut mirror).map_err(unusable)?;
    Ok(mirror)
}
