//! What a command prints: lists and single things, as table, JSON, JSON lines or CSV.
//!
//! Entry points: [`Output::list`], [`Output::thing`].
//!
//! | part | what it is |
//! |---|---|
//! | `message` | messages of the API as JSON |
//! | `table` | aligned columns |
//! | `text` | what others wrote, made harmless |
//!
//! Invariants:
//! - A list is written as it comes: memory does not grow with it.
//! - The form changes how an answer looks, never what it says; whether it is complete is told in every form.
//! - Results go to standard output, everything else to standard error.

mod message;
mod table;
pub(super) mod text;

use std::io::{self, Stdout, Write};

use serde_json::Value;

pub(super) use self::message::{CellType, Named, row_columns, short, to_json};
use self::table::{Table, write_pairs};
use self::text::{clean, guarded};
use super::args::Form;

/// Bytes that are collected before a write: some dozen rows.
const BUFFER_BYTES: usize = 16 * 1024;

/// A column of a list.
pub(super) struct Column<R> {
    /// Stable name: the header of the CSV; in capitals the table's.
    pub(super) name: &'static str,
    /// Whether the table shows it; the CSV shows all.
    pub(super) in_table: bool,
    /// The cell of a row.
    pub(super) cell: fn(&R) -> String,
}

impl<R> Column<R> {
    /// A column of table and CSV.
    pub(super) const fn shown(name: &'static str, cell: fn(&R) -> String) -> Self {
        Self { name, in_table: true, cell }
    }

    /// A column of the CSV only.
    pub(super) const fn extra(name: &'static str, cell: fn(&R) -> String) -> Self {
        Self { name, in_table: false, cell }
    }
}

/// Where a property of a thing is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Everywhere,
    Table,
    Csv,
}

/// A property of a thing: its stable name and its value; empty values are left out of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) value: String,
    place: Place,
}

impl Field {
    /// In table and CSV.
    pub(super) const fn new(name: &'static str, value: String) -> Self {
        Self { name, value, place: Place::Everywhere }
    }

    /// In the table only: a sentence, a list of several lines.
    pub(super) const fn in_table(name: &'static str, value: String) -> Self {
        Self { name, value, place: Place::Table }
    }

    /// In the CSV only: what the table says in a sentence.
    pub(super) const fn in_csv(name: &'static str, value: String) -> Self {
        Self { name, value, place: Place::Csv }
    }
}

/// How and how much to print.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    pub(super) form: Form,
    pub(super) quiet: bool,
}

/// The form of a list with what it has written so far.
enum Writer {
    Table(Table<io::BufWriter<Stdout>>),
    Json { out: io::BufWriter<Stdout>, rows: u64 },
    Jsonl(io::BufWriter<Stdout>),
    Csv(Box<csv::Writer<Stdout>>),
}

/// A list that is being printed.
pub(super) struct List<R: 'static> {
    columns: &'static [Column<R>],
    writer: Writer,
}

fn stdout() -> io::BufWriter<Stdout> {
    io::BufWriter::with_capacity(BUFFER_BYTES, io::stdout())
}

/// The writer of CSV hides the kind of an error, by which a closed output is recognised.
fn csv_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

impl Output {
    /// Begins a list. `rows_name` is the list's name within the JSON document.
    pub(super) fn list<R>(&self, rows_name: &str, columns: &'static [Column<R>]) -> io::Result<List<R>> {
        let shown = columns.iter().filter(|column| column.in_table).map(|column| column.name);
        let writer = match self.form {
            Form::Table => Writer::Table(Table::new(stdout(), shown)),
            Form::Jsonl => Writer::Jsonl(stdout()),
            Form::Json => {
                let mut out = stdout();
                write!(out, "{{{}:[", Value::from(rows_name))?;
                Writer::Json { out, rows: 0 }
            }
            Form::Csv => {
                let mut writer = csv::WriterBuilder::new().buffer_capacity(BUFFER_BYTES).from_writer(io::stdout());
                writer.write_record(columns.iter().map(|column| column.name)).map_err(csv_error)?;
                Writer::Csv(Box::new(writer))
            }
        };
        Ok(List { columns, writer })
    }

    /// Prints one thing: `fields` in table and CSV, `document` in the forms of JSON.
    pub(super) fn thing(&self, fields: &[Field], document: &Value) -> io::Result<()> {
        let mut out = stdout();
        match self.form {
            Form::Table => {
                let shown = fields.iter().filter(|field| field.place != Place::Csv && !field.value.is_empty());
                write_pairs(&mut out, &shown.map(|field| (field.name, field.value.as_str())).collect::<Vec<_>>())?;
            }
            Form::Json => {
                serde_json::to_writer_pretty(&mut out, document)?;
                writeln!(out)?;
            }
            Form::Jsonl => writeln!(out, "{document}")?,
            Form::Csv => {
                let stable = || fields.iter().filter(|field| field.place != Place::Table);
                let mut writer = csv::Writer::from_writer(&mut out);
                writer.write_record(stable().map(|field| field.name)).map_err(csv_error)?;
                writer.write_record(stable().map(|field| guarded(field.value.clone()))).map_err(csv_error)?;
                writer.flush()?;
            }
        }
        out.flush()
    }

    /// Prints the answer that there is nothing to show, in the forms of JSON; in the others standard error says it.
    pub(super) fn absent(&self, document: &Value) -> io::Result<()> {
        match self.form {
            Form::Json | Form::Jsonl => self.thing(&[], document),
            Form::Table | Form::Csv => Ok(()),
        }
    }

    /// Prints text as it is: the configuration, an address.
    pub(super) fn text(&self, text: &str) -> io::Result<()> {
        let mut out = stdout();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// A remark on standard error that `--quiet` takes away.
    pub(super) fn note(&self, text: &str) {
        if !self.quiet {
            warn(text);
        }
    }
}

/// A line on standard error that is always told.
pub(super) fn warn(text: &str) {
    // Whoever closed standard error does not want to know.
    let _ = writeln!(io::stderr(), "{}", clean(text));
}

/// The line that a failed command ends with.
pub(super) fn error(message: &str) {
    // Not cleaned here: the message is, part by part, and may have several lines.
    let _ = writeln!(io::stderr(), "error: {message}");
}

impl<R: 'static> List<R> {
    /// Writes a row; `json` is the row for the forms of JSON.
    pub(super) fn row(&mut self, row: &R, json: impl FnOnce(&R) -> Value) -> io::Result<()> {
        match &mut self.writer {
            Writer::Table(table) => {
                table.push(self.columns.iter().filter(|column| column.in_table).map(|column| (column.cell)(row)))
            }
            Writer::Json { out, rows } => {
                let separator = if *rows == 0 { "" } else { "," };
                *rows += 1;
                write!(out, "{separator}\n  {}", json(row))
            }
            Writer::Jsonl(out) => writeln!(out, "{}", json(row)),
            Writer::Csv(writer) => {
                writer.write_record(self.columns.iter().map(|column| guarded((column.cell)(row)))).map_err(csv_error)
            }
        }
    }

    /// Lets a reader see what is there: called after every page.
    pub(super) fn page_end(&mut self) -> io::Result<()> {
        match &mut self.writer {
            // The table is still measuring.
            Writer::Table(_) => Ok(()),
            Writer::Json { out, .. } | Writer::Jsonl(out) => out.flush(),
            Writer::Csv(writer) => writer.flush(),
        }
    }

    /// Ends the list. `rest` are the other members of the JSON document: what it is about, its meta.
    pub(super) fn finish(mut self, rest: &[(&str, Value)]) -> io::Result<()> {
        match &mut self.writer {
            Writer::Table(table) => table.finish(),
            Writer::Json { out, rows } => {
                let line_end = if *rows == 0 { "" } else { "\n" };
                write!(out, "{line_end}]")?;
                for (name, value) in rest {
                    write!(out, ",\n{}:{value}", Value::from(*name))?;
                }
                writeln!(out, "}}")?;
                out.flush()
            }
            Writer::Jsonl(out) => out.flush(),
            Writer::Csv(writer) => writer.flush(),
        }
    }
}
