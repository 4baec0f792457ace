//! Lists of any length: page after page from the API to the output. Entry point: [`print_all`].
//!
//! Invariants:
//! - One page is in memory at a time.
//! - A walk ends: a page token that comes again ends it with an error.
//! - Whether the list is complete is told at its end, for all its pages together.

use std::collections::BTreeSet;

use anyhow::anyhow;
use okta_idmap_proto::limits::{GAP_IDS_MAX, PAGE_SIZE_MAX};
use okta_idmap_proto::v1::{Completeness, ResponseMeta};
use serde_json::Value;

use super::failure::Failure;
use super::output::{Column, Named, Output, to_json, warn};
use super::words::gaps_named;

/// Which page to fetch.
pub(super) struct PageWanted {
    /// Rows.
    pub(super) page_size: i32,
    /// From the last page, or empty.
    pub(super) page_token: String,
}

/// A page of a list.
pub(super) struct PageFound<R> {
    pub(super) meta: Option<ResponseMeta>,
    pub(super) next_page_token: String,
    pub(super) rows: Vec<R>,
}

/// How a list is printed.
pub(super) struct Printing<R: 'static> {
    /// Name of the rows in JSON and in the note: `accounts`.
    pub(super) rows_name: &'static str,
    pub(super) columns: &'static [Column<R>],
    /// Rows at most.
    pub(super) limit: Option<u64>,
    /// What the list is about, in JSON.
    pub(super) about: Option<(&'static str, Value)>,
}

/// Prints all pages that `fetch` gets.
pub(super) async fn print_all<R: Named>(
    output: &Output,
    printing: Printing<R>,
    mut fetch: impl AsyncFnMut(PageWanted) -> Result<PageFound<R>, Failure>,
) -> Result<(), Failure> {
    let mut metas = Metas::default();
    let mut written = 0_u64;
    let mut page_token = String::new();
    // Nothing is printed before the first page is there: a failure then has the screen for itself.
    let mut list = None;
    let has_more = loop {
        let left = printing.limit.map_or(u64::MAX, |limit| limit - written);
        // One row more than wanted tells whether there are more.
        let page_size = left.saturating_add(1).min(PAGE_SIZE_MAX as u64);
        let wanted = PageWanted { page_size: i32::try_from(page_size).unwrap_or(i32::MAX), page_token };
        let asked = wanted.page_token.clone();
        let page = fetch(wanted).await?;
        metas.add(page.meta);
        let list = match &mut list {
            Some(list) => list,
            None => list.insert(output.list(printing.rows_name, printing.columns)?),
        };
        let mut rows = page.rows.iter();
        for row in rows.by_ref().take(usize::try_from(left).unwrap_or(usize::MAX)) {
            list.row(row, to_json)?;
            written += 1;
        }
        list.page_end()?;
        let limit_reached = printing.limit.is_some_and(|limit| written >= limit);
        if page.next_page_token.is_empty() || limit_reached {
            break rows.next().is_some() || !page.next_page_token.is_empty();
        }
        if page.next_page_token == asked {
            return Err(anyhow!("the list of {} goes in circles: the server repeats a page", printing.rows_name).into());
        }
        page_token = page.next_page_token;
    };
    let mut rest: Vec<(&str, Value)> = printing.about.into_iter().collect();
    rest.push(("meta", metas.to_json()));
    rest.push(("truncated", Value::from(has_more)));
    if let Some(list) = list {
        list.finish(&rest)?;
    }
    let more = if has_more { ", there are more" } else { "" };
    output.note(&format!("{}{more}", counted(written, printing.rows_name)));
    metas.warn();
    Ok(())
}

/// `1 group`, `2 groups`: all names of rows form their plural with an s.
fn counted(count: u64, plural: &str) -> String {
    let name = if count == 1 { plural.strip_suffix('s').unwrap_or(plural) } else { plural };
    format!("{count} {name}")
}

/// What the pages of a list say about themselves, put together: the first one's revision (a copy is brought up to date
/// from there), and every gap that any of them names.
#[derive(Debug, Default)]
pub(super) struct Metas {
    first: Option<ResponseMeta>,
    partial: bool,
    gap_ids: BTreeSet<String>,
    gap_count: u32,
}

impl Metas {
    pub(super) fn add(&mut self, meta: Option<ResponseMeta>) {
        let Some(meta) = meta else {
            // Who does not say that everything was read has not said it.
            self.partial = true;
            return;
        };
        self.partial |= meta.completeness() != Completeness::Complete;
        self.gap_count = self.gap_count.max(meta.gap_count);
        for id in &meta.gap_ids {
            if self.gap_ids.len() < GAP_IDS_MAX {
                self.gap_ids.insert(id.clone());
            }
        }
        self.first.get_or_insert(meta);
    }

    pub(super) fn to_json(&self) -> Value {
        let Some(first) = &self.first else { return Value::Null };
        let completeness = if self.partial { Completeness::Partial } else { Completeness::Complete };
        to_json(&ResponseMeta {
            completeness: completeness.into(),
            gap_ids: self.gap_ids.iter().cloned().collect(),
            gap_count: self.gap_count(),
            ..first.clone()
        })
    }

    /// Whether any page is incomplete.
    pub(super) const fn is_partial(&self) -> bool {
        self.partial
    }

    /// The gaps of all pages, at most as many as one meta names.
    pub(super) fn gap_ids(&self) -> Vec<String> {
        self.gap_ids.iter().cloned().collect()
    }

    fn gap_count(&self) -> u32 {
        self.gap_count.max(u32::try_from(self.gap_ids.len()).unwrap_or(u32::MAX))
    }

    /// The line on standard error that every incomplete answer ends with, `--quiet` or not.
    pub(super) fn warn(&self) {
        if let Some(text) = self.footer() {
            warn(&text);
        }
    }

    fn footer(&self) -> Option<String> {
        if !self.partial {
            return None;
        }
        if self.gap_ids.is_empty() {
            return Some("PARTIAL: something may be missing; `okta-idmap status` shows the gaps".to_owned());
        }
        let count = usize::try_from(self.gap_count()).unwrap_or(usize::MAX);
        let named = gaps_named(&self.gap_ids, count);
        Some(format!("PARTIAL: what these gaps hide may be missing: {named}"))
    }
}

/// The same line for an answer of one message.
pub(super) fn warn_if_partial(meta: Option<&ResponseMeta>) {
    let mut metas = Metas::default();
    metas.add(meta.cloned());
    metas.warn();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(revision: u64, gap_ids: &[&str], gap_count: u32) -> Option<ResponseMeta> {
        let completeness = if gap_ids.is_empty() { Completeness::Complete } else { Completeness::Partial };
        Some(ResponseMeta {
            revision,
            completeness: completeness.into(),
            gap_ids: gap_ids.iter().map(ToString::to_string).collect(),
            gap_count,
            ..ResponseMeta::default()
        })
    }

    #[test]
    fn pages_are_judged_together() {
        #[track_caller]
        fn check(pages: Vec<Option<ResponseMeta>>, revision: u64, footer: Option<&str>) {
            let mut metas = Metas::default();
            pages.into_iter().for_each(|page| metas.add(page));
            assert_eq!(metas.footer().as_deref(), footer);
            let json = metas.to_json();
            assert_eq!(json["revision"], revision);
            assert_eq!(json["completeness"], if footer.is_some() { "PARTIAL" } else { "COMPLETE" });
        }
        check(vec![meta(7, &[], 0), meta(9, &[], 0)], 7, None);
        let both = "PARTIAL: what these gaps hide may be missing: a, b";
        check(vec![meta(7, &["b"], 1), meta(9, &[], 0), meta(9, &["a", "b"], 2)], 7, Some(both));
        let cut = "PARTIAL: what these gaps hide may be missing: a and 4 more";
        check(vec![meta(1, &["a"], 5)], 1, Some(cut));
    }

    #[test]
    fn an_answer_that_does_not_say_is_partial() {
        for meta in [None, Some(ResponseMeta::default())] {
            let mut metas = Metas::default();
            metas.add(meta);
            assert!(metas.footer().is_some());
        }
        assert_eq!(Metas::default().to_json(), Value::Null);
    }
}
