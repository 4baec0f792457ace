//! `okta-idmap export`: everything that is stored, at one revision, into a file or another program. Entry point: [`run`].
//!
//! Invariants:
//! - JSON lines say how much there is before the first row, and that it is whole behind the last one; a CSV that is not whole
//!   ends in a failure.
//! - A file appears when it is whole, and only its owner can read it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use okta_idmap_proto::v1::{self, row::Row};
use serde_json::{Map, Value, json};

use super::args::{ExportArgs, Form};
use super::context::Context;
use super::failure::{Exit, Failure};
use super::lists::warn_if_partial;
use super::output::text::guarded;
use super::output::to_json;
use super::run;
use super::watch::row_kinds;
use crate::serve::{ExportError, ExportPart};

/// Version of the lines; grows when a reader has to know.
const FORMAT_VERSION: u32 = 1;

/// Bytes that are collected before a write.
const BUFFER_BYTES: usize = 64 * 1024;

/// Writes the export of one org.
pub(super) async fn run(context: &Context, args: &ExportArgs) -> Result<Exit, Failure> {
    let kinds = row_kinds(&args.kinds);
    let is_csv = match context.output.form {
        Form::Table | Form::Jsonl => false,
        Form::Csv => true,
        Form::Json => {
            return Err(Failure::Usage(anyhow!(
                "an export has no end that one document could wait for: --output jsonl or csv"
            )));
        }
    };
    if is_csv && kinds.len() != 1 {
        return Err(Failure::Usage(anyhow!("a CSV has one kind of rows: --kinds user, or another one")));
    }
    if context.global.server.is_some() {
        let error = anyhow!(
            "an export reads the data directory itself: leave --server out, or copy over the network by \
             `okta-idmap watch --from-snapshot --output jsonl`"
        );
        return Err(Failure::Usage(error));
    }
    context.request_context()?;
    let org = context.config.require_org(context.global.org.first().map(String::as_str))?;
    let target = args.to.as_deref().map(Target::open).transpose()?;
    let mut lines: Box<dyn Lines> = match (&target, is_csv) {
        (Some(target), false) => Box::new(Jsonl::new(target.writer()?)),
        (None, false) => Box::new(Jsonl::new(BufWriter::with_capacity(BUFFER_BYTES, io::stdout()))),
        (Some(target), true) => Box::new(Csv::new(target.writer()?, kinds[0])?),
        (None, true) => Box::new(Csv::new(BufWriter::with_capacity(BUFFER_BYTES, io::stdout()), kinds[0])?),
    };
    let (mut begin, mut promised) = (None, 0);
    let exported = run::export(&context.config, org, &kinds, |part| {
        if let ExportPart::Begin { meta, row_counts } = &part {
            begin = Some(meta.clone());
            promised = row_counts.iter().map(|kind| kind.row_count).sum();
        }
        lines.part(&part)
    })?;
    match exported {
        Err(ExportError::Sink(error)) => return Err(error.into()),
        exported => exported.map_err(anyhow::Error::new)?,
    }
    if promised != lines.rows() {
        let error = anyhow!("{promised} rows are stored, and {} could be read: the export is not whole", lines.rows());
        return Err(error.into());
    }
    let rows = lines.end()?;
    drop(lines);
    if let Some(target) = target {
        target.appear()?;
    }
    context.output.note(&format!("{rows} rows"));
    warn_if_partial(begin.as_ref());
    Ok(Exit::Done)
}

/// A file that is being written beside its place.
struct Target {
    place: PathBuf,
    unfinished: PathBuf,
    file: File,
}

impl Target {
    fn open(place: &Path) -> anyhow::Result<Self> {
        let name = place.file_name().ok_or_else(|| anyhow!("--to {}: is no file", place.display()))?;
        if place.is_dir() {
            return Err(anyhow!("--to {}: is a directory", place.display()));
        }
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}", std::process::id()));
        let unfinished = place.with_file_name(hidden);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished);
        let file = file.with_context(|| format!("create {}", unfinished.display()))?;
        Ok(Self { place: place.to_owned(), unfinished, file })
    }

    fn writer(&self) -> anyhow::Result<BufWriter<File>> {
        let file = self.file.try_clone().with_context(|| format!("open {}", self.unfinished.display()))?;
        Ok(BufWriter::with_capacity(BUFFER_BYTES, file))
    }

    fn appear(self) -> anyhow::Result<()> {
        self.file.sync_all().with_context(|| format!("write {}", self.unfinished.display()))?;
        fs::rename(&self.unfinished, &self.place).with_context(|| format!("write {}", self.place.display()))
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
            ExportPart::Begin { meta, row_counts } => {
                let row_counts: Vec<Value> = row_counts.iter().map(to_json).collect();
                json!({ "export": { "version": FORMAT_VERSION, "meta": to_json(meta), "row_counts": row_counts } })
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
        let empty = match kind {
            v1::RowKind::User => Row::User(v1::User::default()),
            v1::RowKind::Group => Row::Group(v1::Group::default()),
            v1::RowKind::App => Row::App(v1::App::default()),
            v1::RowKind::AppUser => Row::AppUser(v1::AppUser::default()),
            v1::RowKind::GroupMember => Row::GroupMember(v1::GroupMember::default()),
            v1::RowKind::Override => Row::Override(v1::Override::default()),
            v1::RowKind::AppGroup | v1::RowKind::Unspecified => Row::AppGroup(v1::AppGroup::default()),
        };
        let columns = fields(&v1::Row { row: Some(empty) }).into_iter().map(|(name, _)| name).collect();
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
        assert_eq!(names, [place]);
        assert!(Target::open(dir.path()).is_err(), "a directory");
    }
}
