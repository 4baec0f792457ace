//! Paging: limits, opaque keyset cursors, and the odd pages that quirks and rules make (facts 0.1, 13).
//!
//! Entry points: `Context::window`, [`Window::list`].
//!
//! Invariants: a cursor is a position, not a snapshot, so objects appear and disappear between pages; every page but
//! an empty one moves the position on; an empty page marks the cursor so that its successor is not empty again.

use super::{ApiError, Context};

/// Mark of a cursor that came with an empty page.
const EMPTY_MARK: &str = ".e";
/// Integer cursors look like the large numbers of real app user lists (facts 0.1).
const INTEGER_CURSOR_BASE: u64 = 100_000_000_000;

/// How an endpoint writes its cursors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CursorKind {
    /// The id of the last object, after a fixed prefix (empty for most).
    Id(crate::ids::IdKind, &'static str),
    /// A large integer.
    Integer,
}

impl CursorKind {
    fn write(self, key: u32) -> String {
        match self {
            Self::Id(kind, prefix) => format!("{prefix}{}", crate::ids::encode(kind, key)),
            Self::Integer => (INTEGER_CURSOR_BASE + u64::from(key)).to_string(),
        }
    }

    fn read(self, text: &str) -> Option<u32> {
        match self {
            Self::Id(kind, prefix) => crate::ids::decode(kind, text.strip_prefix(prefix)?),
            Self::Integer => u32::try_from(text.parse::<u64>().ok()?.checked_sub(INTEGER_CURSOR_BASE)?).ok(),
        }
    }
}

/// A page as delivered.
pub(crate) struct List {
    pub(crate) items: Vec<String>,
    /// `limit` that the links show; `None` = the endpoint sends no `Link` at all (facts 15.5).
    pub(crate) limit: Option<usize>,
    pub(crate) next_cursor: Option<String>,
    /// Parameters that do not go into the next link, besides `after` and `limit`.
    pub(crate) next_drops: &'static [&'static str],
    /// Set for IAM lists: the key of the array in an object body, with the next link there (facts 15.4).
    pub(crate) body_key: Option<&'static str>,
}

impl List {
    /// A list without paging and without `Link`.
    pub(crate) fn complete(items: Vec<String>) -> Self {
        Self { items, limit: None, next_cursor: None, next_drops: &[], body_key: None }
    }

    /// A list that fits on its first page.
    pub(crate) fn first_page(items: Vec<String>, limit: usize) -> Self {
        Self { limit: Some(limit), ..Self::complete(items) }
    }
}

/// Which part of a list is asked for.
pub(crate) struct Window {
    /// First key that belongs to the page.
    pub(crate) start: u32,
    /// Items on the page.
    take: usize,
    shown_limit: usize,
    position: String,
    is_empty_page: bool,
    kind: CursorKind,
}

impl Context<'_> {
    /// The requested `limit` within its bounds: garbage and zero are 400, too much is silently clamped (facts 1.1).
    pub(crate) fn limit(&self, default: usize, most: usize) -> Result<usize, ApiError> {
        let asked = match self.params.get("limit").as_deref() {
            None | Some("-1") => default,
            Some(text) => text
                .parse::<usize>()
                .ok()
                .filter(|limit| *limit > 0)
                .ok_or_else(|| ApiError::validation("limit", "limit: must be a positive number"))?,
        };
        if self.effects.fail_above.is_some_and(|bound| asked > bound) {
            return Err(ApiError::new(500, "E0000009", "Internal Server Error"));
        }
        Ok(asked.min(most).min(self.effects.clamp.unwrap_or(usize::MAX)).max(1))
    }

    /// Reads `limit` and `after`. A cursor that this endpoint did not write is 400 with `stale_code` (facts 15.2).
    pub(crate) fn window(
        &self,
        default: usize,
        most: usize,
        kind: CursorKind,
        stale_code: &'static str,
    ) -> Result<Window, ApiError> {
        let shown_limit = self.limit(default, most)?;
        let after = self.params.get("after");
        let stale = || {
            let summary = if stale_code == "E0000029" { "Invalid paging request." } else { "Invalid search criteria." };
            ApiError::new(400, stale_code, summary).cause("Invalid cursor.")
        };
        if after.is_some() && self.quirks.cursors_stale {
            return Err(stale());
        }
        let after = after.unwrap_or_default();
        let (position, came_empty) = match after.strip_suffix(EMPTY_MARK) {
            Some(position) => (position, true),
            None => (after.as_str(), false),
        };
        let last = if position.is_empty() { None } else { Some(kind.read(position).ok_or_else(stale)?) };
        let mut take = shown_limit;
        if let Some(percent) = self.effects.short_percent {
            take = (shown_limit * usize::from(percent) / 100).max(1);
        }
        let repeats = self.effects.duplicate && last.is_some();
        let start = last.map_or(0, |last| if repeats { last } else { last.saturating_add(1) });
        Ok(Window {
            start,
            take: take + usize::from(repeats),
            shown_limit,
            position: position.to_owned(),
            is_empty_page: self.effects.empty_page && !came_empty,
            kind,
        })
    }
}

impl Window {
    /// Renders the page from `(key, object)` pairs in ascending order of keys, of which none lies before `start`.
    pub(crate) fn list<T>(&self, found: impl Iterator<Item = (u32, T)>, render: impl Fn(T) -> String) -> List {
        let mut list = List::first_page(Vec::new(), self.shown_limit);
        let mut found = found.peekable();
        if self.is_empty_page {
            list.next_cursor = found.peek().map(|_| format!("{}{EMPTY_MARK}", self.position));
            return list;
        }
        let mut last = None;
        for (key, object) in found.by_ref().take(self.take) {
            list.items.push(render(object));
            last = Some(key);
        }
        if found.peek().is_some() {
            list.next_cursor = last.map(|key| self.kind.write(key));
        }
        list
    }
}
