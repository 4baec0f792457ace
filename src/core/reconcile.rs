//! Stored against seen: what a complete walk may remove.
//!
//! Entry point: [`verdict`]. It is asked only after the last page of a walk without an error; absence after an
//! incomplete walk says nothing. Absence from a complete one is no proof either: it leads to questions.

use super::coverage::{Gap, GapKind};
use super::model::Scope;

/// When the deletion brake holds: a walk that would remove more than `share` *and* more than `rows` of a scope.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Brake {
    /// Share of the stored rows, 0.0 to 1.0.
    pub share: f64,
    /// Number of rows that may always go, however large their share.
    pub rows: u64,
}

impl Default for Brake {
    fn default() -> Self {
        Self { share: 0.2, rows: 50 }
    }
}

/// What a complete walk found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walked {
    /// Rows of the scope that were stored before the walk began.
    pub stored: u64,
    /// Those of them that the walk did not show.
    pub missing: u64,
    /// Whether the stored rows of this scope were read with the same credential in the same org.
    pub same_credential: bool,
    /// Whether the walk brought records that could not be read so far as to say which rows they are.
    pub unknown_records: bool,
    /// Whether the walk showed no row at all.
    pub is_empty: bool,
    /// Whether the rows are objects of their own: users, groups, apps.
    pub are_objects: bool,
}

/// What may be done about the missing rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is missing.
    Nothing,
    /// Each of them is an object of its own (user, group, app): ask for each by id.
    Ask,
    /// They are parts (members, app users, app groups): ask for some of them, and remove them when those are gone.
    Confirm,
    /// Keep them all: more is missing than the brake lets pass.
    HoldShrunk,
    /// Keep them all: the credential is another one, so that absence may be lack of permission (facts 7.2).
    HoldCredential,
    /// Keep them all: they may be the records that could not be read.
    HoldUnreadable,
    /// Keep them all: the list is empty although rows were stored (facts 7.2).
    HoldEmpty,
}

/// Missing users, groups or apps that are asked for one by one; of more, a few tell for all. By-id reads have buckets of
/// hundreds a minute (facts 6.2).
pub const ASKED_ROWS_MAX: u64 = 1_000;

impl Verdict {
    /// Whether the walk settles nothing: what it did not show is in doubt.
    pub const fn is_hold(self) -> bool {
        matches!(self, Verdict::HoldShrunk | Verdict::HoldCredential | Verdict::HoldUnreadable | Verdict::HoldEmpty)
    }

    /// Whether what the walk showed is remembered, so that the missing rows can be removed later.
    pub const fn keeps_missing(self) -> bool {
        matches!(self, Verdict::HoldShrunk | Verdict::HoldCredential | Verdict::HoldEmpty | Verdict::Confirm)
    }

    /// Whether reads by id can tell what became of the missing rows: with another credential a 404 may mean "not visible".
    pub const fn is_probed(self) -> bool {
        matches!(self, Verdict::HoldShrunk | Verdict::HoldEmpty | Verdict::Confirm)
    }
}

/// The gap of a walk whose missing rows are kept and not gone; `None` where nothing is kept, or another gap says it.
pub fn gap_of(scope: &Scope, verdict: Verdict, missing: u64, stored: u64) -> Option<Gap> {
    let (kind, evidence) = match verdict {
        Verdict::HoldEmpty => (GapKind::EmptySuspect, format!("the list is empty, and {missing} rows are stored")),
        Verdict::HoldCredential => (
            GapKind::Held,
            format!(
                "the list no longer shows {missing} of {stored} rows, and it was read with another credential than before"
            ),
        ),
        Verdict::HoldShrunk | Verdict::Confirm => {
            (GapKind::Held, format!("the list no longer shows {missing} of {stored} rows"))
        }
        Verdict::Nothing | Verdict::Ask | Verdict::HoldUnreadable => return None,
    };
    Some(Gap { scope: scope.clone(), kind, evidence })
}

/// Decides about the missing rows of a complete walk.
pub fn verdict(walked: Walked, brake: Brake) -> Verdict {
    if walked.missing == 0 {
        return Verdict::Nothing;
    }
    if !walked.same_credential {
        return Verdict::HoldCredential;
    }
    if walked.unknown_records {
        return Verdict::HoldUnreadable;
    }
    if walked.is_empty {
        return Verdict::HoldEmpty;
    }
    #[expect(clippy::cast_precision_loss, reason = "row counts are far below 2^52")]
    let too_large_a_share = walked.missing as f64 > walked.stored as f64 * brake.share;
    if walked.missing > brake.rows && too_large_a_share {
        return Verdict::HoldShrunk;
    }
    match walked.are_objects {
        true if walked.missing > ASKED_ROWS_MAX => Verdict::HoldShrunk,
        true => Verdict::Ask,
        false => Verdict::Confirm,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(stored: u64, missing: u64, same_credential: bool, expected: Verdict) {
        let walked =
            Walked { stored, missing, same_credential, unknown_records: false, is_empty: false, are_objects: true };
        assert_eq!(verdict(walked, Brake::default()), expected);
    }

    #[test]
    fn records_that_could_be_anything_keep_everything() {
        let walked = Walked {
            stored: 1000,
            missing: 1,
            same_credential: true,
            unknown_records: true,
            is_empty: false,
            are_objects: true,
        };
        assert_eq!(verdict(walked, Brake::default()), Verdict::HoldUnreadable);
        assert_eq!(verdict(Walked { missing: 0, ..walked }, Brake::default()), Verdict::Nothing);
        assert_eq!(verdict(Walked { same_credential: false, ..walked }, Brake::default()), Verdict::HoldCredential);
    }

    #[test]
    fn an_empty_list_is_never_believed_at_once() {
        let walked = Walked {
            stored: 1,
            missing: 1,
            same_credential: true,
            unknown_records: false,
            is_empty: true,
            are_objects: true,
        };
        assert_eq!(verdict(walked, Brake::default()), Verdict::HoldEmpty);
        assert_eq!(verdict(Walked { stored: 0, missing: 0, ..walked }, Brake::default()), Verdict::Nothing);
    }

    #[test]
    fn the_brake_needs_both_share_and_rows() {
        check(1000, 0, true, Verdict::Nothing);
        check(1000, 0, false, Verdict::Nothing);
        check(1000, 200, true, Verdict::Ask); // exactly 20 %
        check(1000, 201, true, Verdict::HoldShrunk);
        check(60, 50, true, Verdict::Ask); // many by share, few by number
        check(60, 51, true, Verdict::HoldShrunk);
        check(51, 51, true, Verdict::HoldShrunk); // an empty list
        check(1_000_000, 51, true, Verdict::Ask);
        check(1_000_000, 1_001, true, Verdict::HoldShrunk); // more than can be asked for one by one
        check(1000, 1, false, Verdict::HoldCredential);
    }

    #[test]
    fn parts_are_confirmed_by_a_sample() {
        let walked = Walked {
            stored: 10_000,
            missing: 1_500,
            same_credential: true,
            unknown_records: false,
            is_empty: false,
            are_objects: false,
        };
        assert_eq!(verdict(walked, Brake::default()), Verdict::Confirm);
        assert_eq!(verdict(Walked { missing: 2_001, ..walked }, Brake::default()), Verdict::HoldShrunk);
    }
}
