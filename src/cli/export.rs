//! `okta-idmap export`: everything that is stored, at one revision, into a file or another program. Entry point: [`run`].
//!
//! Invariants:
//! - JSON lines say how much there is before the first row, and that it is whole behind the last one; a CSV that is not whole
//!   ends in a failure; a Parquet file that is not whole has no end that could be read.
//! - A file appears when it is whole, and only its owner can read it. A failure or a signal leaves none behind.

mod columns;

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use okta_idmap_proto::v1;
use serde_json::{Map, Value, json};

use self::columns::Columns;
use super::args::{AskedForm, ExportArgs};
use super::context::Context;
use super::failure::{Exit, Failure};
use super::lists::warn_if_partial;
use super::output::text::guarded;
use super::output::{row_columns, to_json, warn};
use super::run::{self, OrgView};
use super::signals::or_dropped;
use super::watch::row_kinds;
use crate::config::OrgConfig;
use crate::serve::{ExportError, ExportPart, export};

/// Version of the lines; grows when a reader has to know.
const FORMAT_VERSION: u32 = 1;

/// Bytes that are collected before a write.
const BUFFER_BYTES: usize = 64 * 1024;

/// The forms of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExportForm {
    Jsonl,
    Csv,
    Parquet,
}

impl ExportForm {
    fn of(context: &Context, kinds: &[v1::RowKind]) -> Result<Self, Failure> {
        let (form, name) = match context.global.output {
            None | Some(AskedForm::Jsonl) => return Ok(Self::Jsonl),
            Some(AskedForm::Csv) => (Self::Csv, "a CSV"),
            Some(AskedForm::Parquet) => (Self::Parquet, "a Parquet file"),
            Some(AskedForm::Table) => {
                return Err(Failure::Usage(anyhow!(
                    "an export is for programs, and has no table: --output jsonl, csv or parquet"
                )));
            }
            Some(AskedForm::Json) => {
                return Err(Failure::Usage(anyhow!(
                    "an export has no end that one document could wait for: --output jsonl, csv or parquet"
                )));
            }
        };
        if kinds.len() != 1 {
            return Err(Failure::Usage(anyhow!("{name} has one kind of rows: --kinds user, or another one")));
        }
        Ok(form)
    }

    fn begin(self, out: Box<dyn Write + Send>, kinds: &[v1::RowKind]) -> io::Result<Box<dyn Lines>> {
        let out = BufWriter::with_capacity(BUFFER_BYTES, out);
        Ok(match (self, kinds.first()) {
            (Self::Csv, Some(kind)) => Box::new(Csv::new(out, *kind)?),
            (Self::Parquet, Some(kind)) => Box::new(Columns::new(out, kind_name(*kind))?),
            _ => Box::new(Jsonl::new(out)),
        })
    }
}

/// Writes the export of one org.
pub(super) async fn run(context: &Context, args: &ExportArgs) -> Result<Exit, Failure> {
    let kinds = row_kinds(&args.kinds);
    let form = ExportForm::of(context, &kinds)?;
    if context.global.server.is_some() {
        let error = anyhow!(
            "an export reads the data directory itself: leave --server out, or copy over the network by \
             `okta-idmap watch --from-snapshot --output jsonl`"
        );
        return Err(Failure::Usage(error));
    }
    if args.to.as_deref() == Some(Path::new("-")) {
        let error = anyhow!("--to -: without --to an export goes to standard output; a file of that name is ./-");
        return Err(Failure::Usage(error));
    }
    if form == ExportForm::Parquet && args.to.is_none() && io::stdout().is_terminal() {
        return Err(Failure::Usage(anyhow!("a Parquet file is nothing to look at: --to FILE")));
    }
    context.request_context()?;
    let org = context.config.require_org(context.global.org.first().map(String::as_str))?;
    // Whoever is to hear a signal listens before there is a file that it would leave behind.
    let Some(written) = or_dropped(Box::pin(make(context, args, org, kinds, form))).await? else {
        let left = if args.to.is_some() { "no file was made" } else { "it is not whole" };
        return Err(anyhow!("interrupted: {left}").into());
    };
    let (meta, rows) = written?;
    context.output.note(&format!("{rows} rows"));
    warn_if_partial(meta.as_ref());
    Ok(Exit::Done)
}

/// Makes the file, or writes to standard output. Dropped before its end, it takes the unfinished file away.
async fn make(
    context: &Context,
    args: &ExportArgs,
    org: &OrgConfig,
    kinds: Vec<v1::RowKind>,
    form: ExportForm,
) -> Result<Written, Failure> {
    let target = args.to.as_deref().map(Target::open).transpose()?;
    let view = run::view(&context.config, org).with_context(|| format!("look into org {}", org.name))?;
    let out: Box<dyn Write + Send> = match &target {
        Some(target) => Box::new(target.writer()?),
        None => Box::new(io::stdout()),
    };
    let place = target.as_ref().map(|target| target.place.clone());
    // On a thread of its own, so that this one hears a signal.
    let written = tokio::task::spawn_blocking(move || {
        write(&view, &kinds, form, out).map_err(|error| match (error, place) {
            (Unwritten::Output(error), Some(place)) => Failure::Failed(not_written(&place, error)),
            (Unwritten::Output(error), None) => Failure::from(error),
            (Unwritten::Rows(error), _) => Failure::Failed(error),
        })
    });
    let written = written.await;
    let written = written.context("write the export")??;
    if let Some(target) = target {
        target.appear()?;
    }
    Ok(written)
}

/// What an export says of itself, and its rows.
type Written = (Option<v1::ResponseMeta>, u64);

/// Why an export is not whole.
enum Unwritten {
    /// Where it goes to takes no more.
    Output(io::Error),
    /// What is stored cannot be read, or not all of it.
    Rows(anyhow::Error),
}

impl From<io::Error> for Unwritten {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Says which file could not be written, and what to do where there is no room for it.
fn not_written(place: &Path, error: io::Error) -> anyhow::Error {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => anyhow!(
            "write {}: {error}; no file was made: make room there (disk, quota, limit of file sizes), or name a place \
             elsewhere with --to",
            place.display()
        ),
        _ => anyhow::Error::new(error).context(format!("write {}", place.display())),
    }
}

/// Writes everything.
fn write(
    view: &OrgView,
    kinds: &[v1::RowKind],
    form: ExportForm,
    out: Box<dyn Write + Send>,
) -> Result<Written, Unwritten> {
    let mut lines = form.begin(out, kinds)?;
    let (mut begin, mut promised) = (None, 0);
    let exported = export(view, kinds, run::now(), |part| {
        if let ExportPart::Begin { meta, row_counts, .. } = &part {
            begin = Some(meta.clone());
            promised = row_counts.iter().map(|kind| kind.row_count).sum();
        }
        lines.part(&part)
    });
    match exported {
        Err(ExportError::Sink(error)) => return Err(error.into()),
        exported => exported.map_err(|error| Unwritten::Rows(error.into()))?,
    }
    if promised != lines.rows() {
        let error = anyhow!("{promised} rows are stored, and {} could be read: the export is not whole", lines.rows());
        return Err(Unwritten::Rows(error));
    }
    Ok((begin, lines.end()?))
}

/// A file that is being written beside its place.
struct Target {
    place: PathBuf,
    unfinished: PathBuf,
    file: File,
}

impl Target {
    fn open(asked: &Path) -> anyhow::Result<Self> {
        let place = regular(asked).with_context(|| format!("--to {}", asked.display()))?;
        let name = place.file_name().ok_or_else(|| anyhow!("--to {}: is no file", place.display()))?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        // Process ids come again, in a container always: a rest that a killed export has left must not be in the way.
        hidden.push(format!(".{:016x}", fastrand::u64(..)));
        let unfinished = place.with_file_name(hidden);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished);
        // Nobody knows the name that it has up to its end.
        let file = file.with_context(|| format!("create {}", place.display()))?;
        Ok(Self { place, unfinished, file })
    }

    fn writer(&self) -> anyhow::Result<File> {
        self.file.try_clone().with_context(|| format!("open {}", self.place.display()))
    }

    /// Puts the whole file in its place, so that it is there after a power cut as well, or another one that was there before.
    fn appear(self) -> anyhow::Result<()> {
        self.file.sync_all().map_err(|error| not_written(&self.place, error))?;
        let dir = self.place.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let dir = File::open(dir);
        fs::rename(&self.unfinished, &self.place).map_err(|error| not_written(&self.place, error))?;
        // The file is there, and whole: that is no failure any more.
        if let Err(error) = dir.and_then(|dir| dir.sync_all()) {
            warn(&format!(
                "{} is there; whether it still is after a power cut could not be made sure: {error}",
                self.place.display()
            ));
        }
        Ok(())
    }
}

/// Where a file is to be put: where a link leads, and where there is nothing yet or a file that may be replaced.
fn regular(place: &Path) -> anyhow::Result<PathBuf> {
    let is_link = fs::symlink_metadata(place).is_ok_and(|found| found.is_symlink());
    let place = if is_link { place.canonicalize().context("the link leads nowhere")? } else { place.to_owned() };
    match fs::metadata(&place) {
        Ok(found) if found.is_dir() => Err(anyhow!("is a directory")),
        Ok(found) if !found.is_file() => {
            Err(anyhow!("is no regular file; without --to an export goes to standard output"))
        }
        // What cannot be looked at is told by whoever makes the file.
        _ => Ok(place),
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // It is not there any more once it has appeared.
        let _ = fs::remove_file(&self.unfinished);
    }
}

/// A form of export.
trait Lines {
    fn part(&mut self, part: &ExportPart) -> io::Result<()>;

    /// Rows so far.
    fn rows(&self) -> u64;

    /// Says that it is whole. Returns the number of rows.
    fn end(&mut self) -> io::Result<u64>;
}

/// The name of a kind in the union of all rows.
fn kind_name(kind: v1::RowKind) -> &'static str {
    match kind {
        v1::RowKind::User => "user",
        v1::RowKind::Group => "group",
        v1::RowKind::App => "app",
        v1::RowKind::AppUser => "app_user",
        v1::RowKind::GroupMember => "group_member",
        v1::RowKind::Override => "override",
        v1::RowKind::AppGroup | v1::RowKind::Unspecified => "app_group",
    }
}

struct Jsonl<W> {
    out: W,
    rows: u64,
}

impl<W: Write> Jsonl<W> {
    fn new(out: W) -> Self {
        Self { out, rows: 0 }
    }
}

impl<W: Write> Lines for Jsonl<W> {
    fn part(&mut self, part: &ExportPart) -> io::Result<()> {
        let line = match part {
            ExportPart::Begin { meta, era, row_counts } => {
                let (meta, row_counts): (_, Vec<Value>) = (to_json(meta), row_counts.iter().map(to_json).collect());
                json!({ "export": { "version": FORMAT_VERSION, "meta": meta, "era": era, "row_counts": row_counts } })
            }
            ExportPart::Row(row) => {
                self.rows += 1;
                to_json(row)
            }
        };
        writeln!(self.out, "{line}")
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    fn end(&mut self) -> io::Result<u64> {
        writeln!(self.out, "{}", json!({ "end": { "rows": self.rows } }))?;
        self.out.flush()?;
        Ok(self.rows)
    }
}

/// The fields of one kind of rows, flat. What belongs to the whole goes to standard error.
struct Csv<W: Write> {
    out: csv::Writer<W>,
    columns: Vec<String>,
    rows: u64,
}

impl<W: Write> Csv<W> {
    fn new(out: W, kind: v1::RowKind) -> io::Result<Self> {
        let columns = row_columns(kind_name(kind)).into_iter().map(|(name, ..)| name).collect();
        let mut csv = Self { out: csv::Writer::from_writer(out), columns, rows: 0 };
        csv.out.write_record(&csv.columns)?;
        Ok(csv)
    }
}

impl<W: Write> Lines for Csv<W> {
    fn part(&mut self, part: &ExportPart) -> io::Result<()> {
        let ExportPart::Row(row) = part else { return Ok(()) };
        let mut fields = fields(row);
        let cells = self.columns.iter().map(|name| guarded(fields.remove(name).as_ref().map(cell).unwrap_or_default()));
        self.out.write_record(cells.collect::<Vec<_>>())?;
        self.rows += 1;
        Ok(())
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    fn end(&mut self) -> io::Result<u64> {
        self.out.flush()?;
        Ok(self.rows)
    }
}

/// The fields of a row, without what says its kind.
fn fields(row: &v1::Row) -> Map<String, Value> {
    let Value::Object(row) = to_json(row) else { return Map::new() };
    match row.into_iter().next() {
        Some((_, Value::Object(fields))) => fields,
        _ => Map::new(),
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(elements) => elements.iter().map(cell).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_flat() {
        let value = json!({ "a": ["x", "y"], "b": null, "c": true, "d": 7 });
        let cells: Vec<String> = value.as_object().unwrap().values().map(cell).collect();
        assert_eq!(cells, ["x y", "", "true", "7"]);
    }

    #[test]
    fn an_unfinished_file_is_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("export.jsonl");
        drop(Target::open(&place).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        Target::open(&place).unwrap().appear().unwrap();
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(names, std::slice::from_ref(&place));
        // What a link leads to is replaced, not the link; nor is what is no file.
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("export.jsonl", &link).unwrap();
        Target::open(&link).unwrap().appear().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let to_nothing = dir.path().join("to_nothing");
        std::os::unix::fs::symlink("nothing", &to_nothing).unwrap();
        for wrong in [dir.path(), &to_nothing, Path::new("/dev/null")] {
            let error = Target::open(wrong).map(drop).unwrap_err().to_string();
            assert!(error.starts_with("--to /"), "{error}");
        }
        // Two at a time, or one behind another that was killed, do not meet.
        let _one = Target::open(&place).unwrap();
        assert!(Target::open(&place).is_ok());
    }
}
