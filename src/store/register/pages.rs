//! A file of sorted entries in pages: one read of the file finds an entry, or that there is none.
//!
//! Entry points: [`PageWriter`] to write one, in order; [`Pages::open`] and [`Pages::find`].
//!
//! ```text
//! front       magic text, hash and length of the head; the head (see `Head`)
//! pages       of each section: hash of the rest, bytes used, entries: place (8 and 4 bytes), length of the value (2), value
//! behind      the place of the first entry of each page of each section, and a hash of them
//! ```
//!
//! Pages of a section begin at multiples of their length, so that none lies in two pages of the system.
//!
//! Invariants:
//! - Entries of a section stand in the order of their places, which are all different; each is whole within a page.
//! - Whatever is read is checked by a hash first, which also tells a page of another file, or of another place. It finds damage, not
//!   malice: who may write the file may write the store.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::core::ids::{Revision, Timestamp};

/// Bytes before the pages.
pub(super) const FRONT_BYTES: usize = 2048;

/// Bytes of the longest page.
const PAGE_BYTES_MAX: usize = 2048;

/// Hash, bytes used.
pub(super) const PAGE_HEAD_BYTES: usize = 8 + 2;

/// Place and length.
pub(super) const ENTRY_HEAD_BYTES: usize = 8 + 4 + 2;

/// Bytes of the first place of a page, behind the pages.
const FENCE_BYTES: usize = 8 + 4;

/// Pages of a file: 32 GiB of the longest.
const PAGES_MAX: u64 = 1 << 24;

/// The last byte is the version of all that stands in the file.
const MAGIC: [u8; 8] = *b"oidmreg2";

/// Bytes before the head.
const HEAD_AT: usize = 8 + 8 + 2;

/// Where an entry stands: by the first, then by the second.
pub(super) type Place = (i64, u32);

/// The parts of the file. Each has an order of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    /// Key of a name, app: whose it is.
    Names,
    /// User, app: the rows.
    People,
}

/// Sections of a file.
const SECTIONS: usize = 2;

impl Section {
    /// All, in the order in which they stand in the file.
    const ALL: [Self; SECTIONS] = [Self::Names, Self::People];

    const fn index(self) -> usize {
        match self {
            Section::Names => 0,
            Section::People => 1,
        }
    }

    /// Bytes of a page: what a look-up copies and checks. Some 25 names, or the rows of two or three people. Half of it would need
    /// twice the memory for [`Fences`].
    pub(super) const fn page_bytes(self) -> usize {
        match self {
            Section::Names => 512,
            Section::People => PAGE_BYTES_MAX,
        }
    }

    /// Longest value, in bytes; one that is longer stands as [`Value::Elsewhere`].
    pub(super) const fn value_bytes_max(self) -> usize {
        self.page_bytes() / 2
    }
}

/// What is known of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// Nothing is stored there.
    None,
    /// This.
    Some(&'a [u8]),
    /// More than stands here.
    Elsewhere,
}

/// A page in memory.
pub(super) struct Page {
    bytes: [u8; PAGE_BYTES_MAX],
    /// Its length.
    length: usize,
    /// Which it is; 0 = none.
    number: u64,
    /// The place that was looked for last, and where the first entry stands that does not come before it.
    reached: (Place, usize),
}

impl Page {
    pub(super) const fn empty() -> Self {
        Self { bytes: [0; PAGE_BYTES_MAX], length: 0, number: 0, reached: Self::BEGIN }
    }

    /// Which it is.
    #[cfg(test)]
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Nothing was looked for yet.
    const BEGIN: (Place, usize) = ((i64::MIN, 0), PAGE_HEAD_BYTES);

    fn find(&mut self, place: Place) -> Option<Value<'_>> {
        let page = self.bytes.get(..self.length)?;
        let entries = page.get(..PAGE_HEAD_BYTES + usize::from(u16_at(page, 8)?))?;
        // Places are looked for in pairs, the second right behind the first.
        let (before, reached) = self.reached;
        let mut at = if before <= place { reached } else { PAGE_HEAD_BYTES };
        let mut value = Value::None;
        while at < entries.len() {
            let entry = entries.get(at..)?;
            let found = (i64_at(entry, 0)?, u32_at(entry, 8)?);
            if found >= place {
                if found == place {
                    let length = usize::from(u16_at(entry, 12)?);
                    let bytes = entry.get(ENTRY_HEAD_BYTES..ENTRY_HEAD_BYTES + length)?;
                    value = if bytes.is_empty() { Value::Elsewhere } else { Value::Some(bytes) };
                }
                break;
            }
            at += ENTRY_HEAD_BYTES + usize::from(u16_at(entry, 12)?);
        }
        self.reached = (place, at);
        Some(value)
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn i64_at(bytes: &[u8], at: usize) -> Option<i64> {
    Some(i64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The hash that a page begins with: of the rest, for this place in this file.
fn hash_of_page(page: &[u8], nonce: u64, number: u64) -> u64 {
    xxh3_64_with_seed(page.get(8..).unwrap_or_default(), nonce.wrapping_add(number))
}

/// Writes a file.
#[derive(Debug)]
pub(super) struct PageWriter {
    file: BufWriter<File>,
    page: Vec<u8>,
    pages: u64,
    nonce: u64,
    last: Option<Place>,
    fences: [Vec<Place>; SECTIONS],
    section: Section,
}

impl PageWriter {
    /// Begins with the section [`Section::Names`], in place of any file there; `nonce`: a random number that is the file's own.
    pub(super) fn create(path: &Path, nonce: u64) -> io::Result<Self> {
        let mut options = File::options();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = BufWriter::with_capacity(1 << 16, options.open(path)?);
        // The first page is written last: what is not whole has none.
        file.write_all(&[0; FRONT_BYTES])?;
        Ok(Self {
            file,
            page: Vec::with_capacity(PAGE_BYTES_MAX),
            pages: 0,
            nonce,
            last: None,
            fences: Default::default(),
            section: Section::Names,
        })
    }

    /// Goes on with this section.
    pub(super) fn begin(&mut self, section: Section) -> io::Result<()> {
        self.end_page()?;
        (self.section, self.last) = (section, None);
        let end = self.file.stream_position()?;
        let gap = end.next_multiple_of(section.page_bytes() as u64) - end;
        io::copy(&mut io::repeat(0).take(gap), &mut self.file).map(drop)
    }

    /// Puts the next entry. A value that is empty or too long stands as [`Value::Elsewhere`].
    pub(super) fn put(&mut self, place: Place, value: &[u8]) -> io::Result<()> {
        if self.last.is_some_and(|last| last >= place) {
            return Err(io::Error::other("entries out of order"));
        }
        let value = if value.len() > self.section.value_bytes_max() { &[] } else { value };
        if self.page.len() + ENTRY_HEAD_BYTES + value.len() > self.section.page_bytes() {
            self.end_page()?;
        }
        if self.page.is_empty() {
            self.page.resize(PAGE_HEAD_BYTES, 0);
            if let Some(fences) = self.fences.get_mut(self.section.index()) {
                // Whatever comes before the first entry is looked for in the first page.
                fences.push(if fences.is_empty() { (i64::MIN, 0) } else { place });
            }
        }
        self.page.extend_from_slice(&place.0.to_le_bytes());
        self.page.extend_from_slice(&place.1.to_le_bytes());
        self.page.extend_from_slice(&u16::try_from(value.len()).unwrap_or_default().to_le_bytes());
        self.page.extend_from_slice(value);
        self.last = Some(place);
        Ok(())
    }

    /// Entries that are put next and have so many bytes altogether, heads included, shall stand in one page if there is one that can
    /// hold them: whoever looks for one of them looks for the others.
    pub(super) fn keep_together(&mut self, bytes: usize) -> io::Result<()> {
        let fits = |used: usize| used + bytes <= self.section.page_bytes();
        if !fits(self.page.len()) && fits(PAGE_HEAD_BYTES) { self.end_page() } else { Ok(()) }
    }

    fn end_page(&mut self) -> io::Result<()> {
        if self.page.is_empty() {
            return Ok(());
        }
        let used = u16::try_from(self.page.len() - PAGE_HEAD_BYTES).unwrap_or_default();
        self.page.resize(self.section.page_bytes(), 0);
        self.page[8..PAGE_HEAD_BYTES].copy_from_slice(&used.to_le_bytes());
        self.pages += 1;
        let hash = hash_of_page(&self.page, self.nonce, self.pages);
        self.page[..8].copy_from_slice(&hash.to_le_bytes());
        self.file.write_all(&self.page)?;
        self.page.clear();
        if self.pages > PAGES_MAX {
            return Err(io::Error::other("too many pages"));
        }
        Ok(())
    }

    /// Ends the file, which is whole once this returns; returns how many bytes it has.
    pub(super) fn finish(mut self, head: &Head) -> io::Result<u64> {
        if self.section == Section::Names {
            self.begin(Section::People)?;
        }
        self.end_page()?;
        let mut fences = Vec::new();
        for (first, second) in self.fences.iter().flatten() {
            fences.extend_from_slice(&first.to_le_bytes());
            fences.extend_from_slice(&second.to_le_bytes());
        }
        self.file.write_all(&fences)?;
        self.file.write_all(&xxh3_64(&fences).to_le_bytes())?;
        let bytes = self.file.stream_position()?;
        let head = head.to_bytes(self.nonce, self.fences.each_ref().map(Vec::len));
        let mut page = MAGIC.to_vec();
        page.extend_from_slice(&xxh3_64(&head).to_le_bytes());
        page.extend_from_slice(&u16::try_from(head.len()).unwrap_or_default().to_le_bytes());
        page.extend_from_slice(&head);
        if page.len() > FRONT_BYTES {
            return Err(io::Error::other("the head is too long"));
        }
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&page)?;
        // Not onto the disk: what the system has not written when it fails is found by the hashes, and made anew.
        self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(bytes)
    }
}

/// What the file is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The file format of the store, and the version of the keys.
    pub(super) versions: (u32, u32),
    /// The store.
    pub(super) store_id: String,
    /// Revisions when its making began and ended, and which process made them.
    pub(super) oldest: Revision,
    pub(super) newest: Revision,
    pub(super) eras: [String; 2],
    /// When its making began.
    pub(super) made_at: Timestamp,
}

/// Numbers of a head, before those of the sections.
const HEAD_NUMBERS: usize = 6;

impl Head {
    fn to_bytes(&self, nonce: u64, fences: [usize; SECTIONS]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let versions = [u64::from(self.versions.0), u64::from(self.versions.1)];
        let made_at = self.made_at.as_millis().cast_unsigned();
        let numbers: [u64; HEAD_NUMBERS] = [versions[0], versions[1], self.oldest.0, self.newest.0, made_at, nonce];
        for number in numbers.into_iter().chain(fences.map(|count| count as u64)) {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let [first, last] = &self.eras;
        bytes.extend_from_slice([self.store_id.as_str(), first, last].join(" ").as_bytes());
        bytes
    }

    /// With the nonce, and the pages of each section.
    fn from_bytes(bytes: &[u8]) -> Option<(Self, u64, [u64; SECTIONS])> {
        let number = |index: usize| u64_at(bytes, index * 8);
        let texts = str::from_utf8(bytes.get((HEAD_NUMBERS + SECTIONS) * 8..)?).ok()?;
        let mut texts = texts.split(' ').map(str::to_owned);
        let mut text = || texts.next();
        let (store_id, eras) = (text()?, [text()?, text()?]);
        let versions = (u32::try_from(number(0)?).ok()?, u32::try_from(number(1)?).ok()?);
        let (oldest, newest) = (Revision(number(2)?), Revision(number(3)?));
        let made_at = Timestamp::from_millis(number(4)?.cast_signed());
        let head = Self { versions, store_id, oldest, newest, eras, made_at };
        Some((head, number(5)?, [number(HEAD_NUMBERS)?, number(HEAD_NUMBERS + 1)?]))
    }
}

/// A file that is read. Keeps 13 bytes in memory for each page.
#[derive(Debug)]
pub(super) struct Pages {
    file: File,
    nonce: u64,
    sections: [Fences; SECTIONS],
}

/// Pages whose first keys share a place in [`Fences::begins`], about.
const PAGES_OF_BUCKET: u64 = 4;

/// Where the pages of a section begin.
///
/// Hashes and surrogates are evenly spread: by the upper bits of a key some pages are left of all, where a search by halves would miss
/// the cache of the processor at each step. However they are spread, no search is longer than one by halves.
#[derive(Debug, Default)]
struct Fences {
    /// Number of its first page.
    first: u64,
    /// Where that stands in the file.
    at: u64,
    /// The first page begins with the smallest of all keys.
    keys: Vec<i64>,
    seconds: Vec<u32>,
    /// By how far a key lies behind the first key of the second page, without its last bits (`shift`): the first page from the second
    /// on whose key lies there or behind. One more than there are places.
    begins: Vec<u32>,
    shift: u32,
}

impl Fences {
    /// Fills `begins`, once all keys are there.
    fn index(&mut self) {
        let (Some(base), Some(last)) = (self.keys.get(1), self.keys.last()) else { return };
        let span = last.abs_diff(*base);
        let places_max = (self.keys.len() as u64 / PAGES_OF_BUCKET).max(1);
        // At most 63: one bit is left then, and two places.
        self.shift = (0..63).find(|shift| span >> shift < places_max).unwrap_or(63);
        let places = usize::try_from(span >> self.shift).unwrap_or_default() + 1;
        self.begins.reserve_exact(places + 1);
        for (page, key) in (0..).zip(&self.keys).skip(1) {
            let place = usize::try_from(key.abs_diff(*base) >> self.shift).unwrap_or(usize::MAX).min(places - 1);
            // Of places where no page begins, too.
            while self.begins.len() <= place {
                self.begins.push(page);
            }
        }
        let pages = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
        self.begins.resize(places + 1, pages);
    }

    /// The page in which a place is, or would be.
    fn page_of(&self, place: Place) -> Option<u64> {
        let mut index = self.last_up_to(place.0)?;
        // Pages that begin with the same key: hardly ever more than two.
        while !self.begins_up_to(index, place) {
            index = index.checked_sub(1)?;
        }
        Some(self.first + index as u64)
    }

    fn begins_up_to(&self, index: usize, place: Place) -> bool {
        let Some(first) = self.keys.get(index) else { return false };
        // The second number is hardly ever needed, and to look at it misses the cache of the processor.
        match first.cmp(&place.0) {
            Ordering::Equal => self.seconds.get(index).is_some_and(|second| *second <= place.1),
            other => other == Ordering::Less,
        }
    }

    /// Whether a place is in the page with this number, or would be.
    fn is_in(&self, number: u64, place: Place) -> bool {
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        index.is_some_and(|index| self.begins_up_to(index, place) && !self.begins_up_to(index + 1, place))
    }

    /// The last page that begins with this key or a smaller one.
    fn last_up_to(&self, key: i64) -> Option<usize> {
        if self.keys.is_empty() {
            return None;
        }
        let Some(base) = self.keys.get(1).filter(|base| **base <= key) else { return Some(0) };
        let places = self.begins.len().checked_sub(1)?;
        let place =
            usize::try_from(key.abs_diff(*base) >> self.shift).unwrap_or(usize::MAX).min(places.checked_sub(1)?);
        let begin = usize::try_from(*self.begins.get(place)?).ok()?;
        let end = usize::try_from(*self.begins.get(place + 1)?).ok()?;
        let within = self.keys.get(begin..end)?;
        (begin + within.partition_point(|first| *first <= key)).checked_sub(1)
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Reads at a place of the file, whoever else reads.
fn read_exact_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_exact_at(file, bytes, at);
    #[cfg(windows)]
    {
        let (mut bytes, mut at) = (bytes, at);
        while !bytes.is_empty() {
            let read = std::os::windows::fs::FileExt::seek_read(file, bytes, at)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            (bytes, at) = (&mut bytes[read..], at + read as u64);
        }
        Ok(())
    }
}

impl Pages {
    /// Opens a whole file and looks at all of it but its pages.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Head)> {
        let file = File::open(path)?;
        let mut page = [0; FRONT_BYTES];
        read_exact_at(&file, &mut page, 0)?;
        if !page.starts_with(&MAGIC) {
            return Err(damaged("it is not whole, or of another version"));
        }
        let length = usize::from(u16_at(&page, 16).unwrap_or_default());
        let head = page.get(HEAD_AT..HEAD_AT + length).ok_or_else(|| damaged("its head has an impossible length"))?;
        if u64_at(&page, 8) != Some(xxh3_64(head)) {
            return Err(damaged("its head is damaged"));
        }
        let (head, nonce, counts) = Head::from_bytes(head).ok_or_else(|| damaged("its head is not understood"))?;
        let pages = counts.iter().fold(0_u64, |sum, count| sum.saturating_add(*count));
        if pages > PAGES_MAX {
            return Err(damaged("it has an impossible number of pages"));
        }
        let (mut first, mut end) = (1, FRONT_BYTES as u64);
        let mut sections = Section::ALL.map(|section| {
            let (bytes, count) = (section.page_bytes() as u64, counts[section.index()]);
            let begun = Fences { first, at: end.next_multiple_of(bytes), ..Fences::default() };
            (first, end) = (first + count, begun.at + count * bytes);
            begun
        });
        let fences_at = end;
        // Before memory is asked for.
        if file.metadata()?.len() != fences_at + pages * FENCE_BYTES as u64 + 8 {
            return Err(damaged("it has another length than it says"));
        }
        let mut fences = vec![0; usize::try_from(pages).unwrap_or_default() * FENCE_BYTES + 8];
        read_exact_at(&file, &mut fences, fences_at)?;
        let (fences, hash) = fences.split_at(fences.len() - 8);
        if u64_at(hash, 0) != Some(xxh3_64(fences)) {
            return Err(damaged("its table of pages is damaged"));
        }
        let mut fences = fences.chunks_exact(FENCE_BYTES);
        for (section, count) in sections.iter_mut().zip(counts) {
            let count = usize::try_from(count).unwrap_or_default();
            (section.keys, section.seconds) = (Vec::with_capacity(count), Vec::with_capacity(count));
            for fence in fences.by_ref().take(count) {
                section.keys.push(i64_at(fence, 0).unwrap_or_default());
                section.seconds.push(u32_at(fence, 8).unwrap_or_default());
            }
            section.index();
        }
        Ok((Self { file, nonce, sections }, head))
    }

    /// What is known of a place. `page` holds what was read last.
    pub(super) fn find<'p>(&self, section: Section, place: Place, page: &'p mut Page) -> io::Result<Value<'p>> {
        let fences = self.sections.get(section.index()).ok_or_else(|| damaged("it has no such section"))?;
        let number = match fences.is_in(page.number, place) {
            true => page.number,
            false => fences.page_of(place).ok_or_else(|| damaged("a section is empty"))?,
        };
        if page.number != number {
            let length = section.page_bytes();
            (page.number, page.length, page.reached) = (0, length, Page::BEGIN);
            let bytes = page.bytes.get_mut(..length).unwrap_or_default();
            read_exact_at(&self.file, bytes, fences.at + (number - fences.first) * length as u64)?;
            if u64_at(bytes, 0) != Some(hash_of_page(bytes, self.nonce, number)) {
                return Err(damaged("a page is damaged"));
            }
            page.number = number;
        }
        page.find(place).ok_or_else(|| damaged("a page is not understood"))
    }
}
