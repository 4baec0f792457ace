//! What a piece of the change log becomes: decisions apart from the reading.
//!
//! Entry points: [`reach`] for a start, [`window`] for a piece of the log, [`batches`] for messages.
//!
//! Invariants:
//! - Of several lines about one thing only the last one counts: an event shows the thing as it is, not as it was.
//! - Events come in the order of their revisions, and a window ends between two lines: what is after it comes next time.

use std::collections::HashMap;

use okta_idmap_proto::limits::CHANGE_EVENTS_MAX;
use okta_idmap_proto::v1;
use prost::Message as _;

use crate::core::coverage::GapId;
use crate::core::ids::Revision;
use crate::core::model::Kind;
use crate::store::{Change, ChangeKey, OverrideChange};

/// Bytes of one message of a stream, about: a few hundred rows, and well below the 4 MiB that clients accept unless told
/// otherwise.
pub(super) const BATCH_BYTES_MAX: usize = 1 << 20;

/// A kind of what is told: rows of Okta, and what operators decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Rows of this kind.
    Row(Kind),
    /// Operators' overrides.
    Override,
}

/// Kinds in the order of `RowKind`, in which snapshots and the lines of one revision come.
pub(super) const KINDS: [Told; 7] = [
    Told::Row(Kind::User),
    Told::Row(Kind::Group),
    Told::Row(Kind::App),
    Told::Row(Kind::AppUser),
    Told::Row(Kind::GroupMember),
    Told::Row(Kind::AppGroup),
    Told::Override,
];

/// Place of gaps within a revision: after all rows.
const GAP_RANK: u8 = 100;

/// Which kinds a caller wants. Empty: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kinds(pub(super) Vec<Told>);

impl Kinds {
    /// Whether this kind is wanted.
    pub(super) fn wants(&self, kind: Told) -> bool {
        self.0.is_empty() || self.0.contains(&kind)
    }

    /// The wanted kinds, in order.
    pub(super) fn all(&self) -> impl Iterator<Item = Told> {
        KINDS.into_iter().filter(|kind| self.wants(*kind))
    }
}

/// What a line is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    /// A row.
    Row(ChangeKey),
    /// An override, by its number.
    Override(i64),
    /// A gap.
    Gap(GapId),
}

/// Where a line stands; the order of all lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) revision: Revision,
    pub(super) rank: u8,
    pub(super) a: i64,
    pub(super) b: i64,
}

impl Place {
    /// Behind all lines of a revision.
    pub(super) const fn behind(revision: Revision) -> Self {
        Self { revision, rank: u8::MAX, a: i64::MAX, b: i64::MAX }
    }

    /// The revision after which lines have to be read to go on behind this place.
    pub(super) fn read_after(self) -> Revision {
        if self == Self::behind(self.revision) { self.revision } else { Revision(self.revision.0.saturating_sub(1)) }
    }
}

/// A line of the change log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) place: Place,
    pub(super) subject: Subject,
}

/// What has changed, as the store has it.
#[derive(Clone, Debug, Default)]
pub(super) struct Changed {
    pub(super) rows: Vec<Change>,
    pub(super) overrides: Vec<OverrideChange>,
    pub(super) gaps: Vec<(Revision, GapId)>,
}

/// Changes as lines, in order, up to and including `through`.
pub(super) fn lines(changed: Changed, through: Revision) -> Vec<Line> {
    let Changed { rows, overrides, gaps } = changed;
    let rank = |kind: Told| KINDS.iter().position(|known| *known == kind).and_then(|rank| u8::try_from(rank).ok());
    let mut lines: Vec<Line> = rows
        .into_iter()
        .filter(|change| change.revision <= through)
        .map(|change| {
            let ChangeKey { kind, a, b } = change.key;
            let place = Place { revision: change.revision, rank: rank(Told::Row(kind)).unwrap_or_default(), a, b };
            Line { place, subject: Subject::Row(change.key) }
        })
        .collect();
    lines.extend(overrides.into_iter().filter(|change| change.revision <= through).map(|change| {
        let rank = rank(Told::Override).unwrap_or_default();
        let place = Place { revision: change.revision, rank, a: change.number, b: 0 };
        Line { place, subject: Subject::Override(change.number) }
    }));
    let (mut revision, mut number) = (Revision::default(), 0);
    for (of, gap) in gaps.into_iter().filter(|(of, _)| *of <= through) {
        number = if of == revision { number + 1 } else { 0 };
        revision = of;
        let place = Place { revision, rank: GAP_RANK, a: number, b: 0 };
        lines.push(Line { place, subject: Subject::Gap(gap) });
    }
    lines.sort_by_key(|line| line.place);
    lines
}

/// A thing that an event has to be made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) revision: Revision,
    pub(super) subject: Subject,
}

/// A piece of the log, collapsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// At most as many as were asked for.
    pub(super) planned: Vec<Planned>,
    /// The last line that was taken; `None`: all of them were.
    pub(super) cut_at: Option<Place>,
}

/// Takes lines until `limit` different things are found that are wanted. Gaps always are.
pub(super) fn window(lines: &[Line], kinds: &Kinds, limit: usize) -> Window {
    let mut last_line: HashMap<&Subject, usize> = HashMap::new();
    let mut cut_at = None;
    for (index, line) in lines.iter().enumerate() {
        let is_wanted = match &line.subject {
            Subject::Row(key) => kinds.wants(Told::Row(key.kind)),
            Subject::Override(_) => kinds.wants(Told::Override),
            Subject::Gap(_) => true,
        };
        if !is_wanted {
            continue;
        }
        if last_line.len() >= limit && !last_line.contains_key(&line.subject) {
            // Behind the line before, wanted or not; before the first one there is nothing to stop at.
            cut_at = index.checked_sub(1).and_then(|before| lines.get(before)).map(|before| before.place);
            break;
        }
        last_line.insert(&line.subject, index);
    }
    let mut indices: Vec<usize> = last_line.into_values().collect();
    indices.sort_unstable();
    let planned = indices.into_iter().filter_map(|index| lines.get(index));
    let planned = planned.map(|line| Planned { revision: line.place.revision, subject: line.subject.clone() });
    Window { planned: planned.collect(), cut_at }
}

/// The store's side of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored<'a> {
    pub(super) store_id: &'a str,
    /// The era of the position's revision, if it is known.
    pub(super) era: Option<&'a str>,
    /// Oldest revision after which changes are known.
    pub(super) oldest: Revision,
    pub(super) newest: Revision,
}

/// Whether changes can be had from a position on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// They can.
    Served,
    /// The copy has to be made anew.
    TooOld(v1::TooOldReason),
    /// The position is one that this store has not reached.
    Ahead,
}

/// A position as a client gives it: a revision, the store that it counts in and the era that made it (empty: not said).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked<'a> {
    pub(super) after: Revision,
    pub(super) store_id: &'a str,
    pub(super) era: &'a str,
    /// Whether it is a copy that answers by what it has: then an era has to be said where one is known. A position without one
    /// is of a time before there were eras, and a store that has the revision by another one was put back since.
    pub(super) answers: bool,
}

/// Decides about a position.
pub(super) fn reach(asked: Asked<'_>, stored: Stored<'_>) -> Reach {
    if !asked.store_id.is_empty() && asked.store_id != stored.store_id {
        return Reach::TooOld(v1::TooOldReason::StoreReplaced);
    }
    if asked.after < stored.oldest {
        return Reach::TooOld(v1::TooOldReason::ChangesDropped);
    }
    match stored.era {
        Some(_) if asked.era.is_empty() && asked.answers && asked.after > Revision::default() => {
            return Reach::TooOld(v1::TooOldReason::StoreRestored);
        }
        _ if asked.era.is_empty() => {}
        Some(era) if era == asked.era => {}
        Some(_) => return Reach::TooOld(v1::TooOldReason::StoreRestored),
        // So many starts ago that nobody remembers.
        None => return Reach::TooOld(v1::TooOldReason::ChangesDropped),
    }
    if asked.after > stored.newest { Reach::Ahead } else { Reach::Served }
}

/// Events as messages: none empty, none with more than [`CHANGE_EVENTS_MAX`] events, and none longer than
/// [`BATCH_BYTES_MAX`] unless a single event is.
pub(super) fn batches(events: Vec<v1::ChangeEvent>) -> Vec<v1::WatchResponse> {
    let mut messages: Vec<v1::WatchResponse> = Vec::new();
    let mut bytes = 0;
    for event in events {
        let length = event.encoded_len();
        match messages.last_mut() {
            Some(message) if message.events.len() < CHANGE_EVENTS_MAX && bytes + length <= BATCH_BYTES_MAX => {
                bytes += length;
                message.events.push(event);
            }
            _ => {
                bytes = length;
                messages.push(v1::WatchResponse { events: vec![event] });
            }
        }
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::coverage::GapKind;
    use crate::core::model::Scope;
    use crate::store::ChangeOp;

    fn change(revision: u64, kind: Kind, a: i64) -> Change {
        Change { revision: Revision(revision), key: ChangeKey { kind, a, b: 0 }, op: ChangeOp::Put }
    }

    fn gap(revision: u64, scope: &Scope) -> (Revision, GapId) {
        (Revision(revision), GapId::of(GapKind::Failed, scope))
    }

    fn shown(planned: &[Planned]) -> String {
        let one = |planned: &Planned| match &planned.subject {
            Subject::Row(key) => format!("{}:{}{}", planned.revision, key.kind.name(), key.a),
            Subject::Override(number) => format!("{}:override{number}", planned.revision),
            Subject::Gap(id) => format!("{}:{id}", planned.revision),
        };
        planned.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    fn some_lines() -> Vec<Line> {
        let rows = vec![
            change(1, Kind::App, 9),
            change(1, Kind::User, 7),
            change(2, Kind::User, 7),
            change(2, Kind::GroupMember, 3),
            change(4, Kind::User, 8),
        ];
        let gaps = vec![gap(2, &Scope::Users), gap(2, &Scope::Apps), gap(3, &Scope::Users)];
        let of_override = |revision, number| OverrideChange { revision: Revision(revision), number };
        let overrides = vec![of_override(1, 5), of_override(3, 5), of_override(4, 6)];
        lines(Changed { rows, overrides, gaps }, Revision(3))
    }

    #[test]
    fn lines_are_in_order_and_end_with_the_piece() {
        let all: Vec<Planned> = some_lines()
            .into_iter()
            .map(|line| Planned { revision: line.place.revision, subject: line.subject })
            .collect();
        assert_eq!(
            shown(&all),
            "1:user7 1:app9 1:override5 2:user7 2:group_member3 2:FAILED:users 2:FAILED:apps 3:override5 3:FAILED:users"
        );
    }

    #[test]
    fn a_thing_is_told_once() {
        #[track_caller]
        fn check(kinds: &[Told], limit: usize, expected: &str, expected_cut: Option<(u64, u8, i64)>) {
            let window = window(&some_lines(), &Kinds(kinds.to_vec()), limit);
            assert_eq!(shown(&window.planned), expected);
            assert_eq!(window.cut_at.map(|place| (place.revision.0, place.rank, place.a)), expected_cut);
        }
        let everything = "1:app9 2:user7 2:group_member3 2:FAILED:apps 3:override5 3:FAILED:users";
        check(&[], 100, everything, None);
        check(&[], 6, everything, None);
        check(&[], 1, "1:user7", Some((1, 0, 7)));
        // Both lines of the user belong to the window that ends behind the second.
        check(&[], 3, "1:app9 1:override5 2:user7", Some((2, 0, 7)));
        check(&[Told::Row(Kind::App)], 1, "1:app9", Some((2, 4, 3)));
        check(&[Told::Row(Kind::AppGroup)], 100, "2:FAILED:apps 3:FAILED:users", None);
        check(&[Told::Override], 100, "2:FAILED:apps 3:override5 3:FAILED:users", None);
    }

    #[test]
    fn windows_one_after_the_other_show_everything() {
        let lines = some_lines();
        for limit in 1..8 {
            let (mut after, mut found) = (Place::behind(Revision(0)), Vec::new());
            for _ in 0..10 {
                let rest: Vec<Line> = lines.iter().filter(|line| line.place > after).cloned().collect();
                let window = window(&rest, &Kinds::default(), limit);
                assert!(window.planned.len() <= limit);
                found.extend(window.planned);
                match window.cut_at {
                    Some(place) => after = place,
                    None => break,
                }
            }
            let mut revisions: Vec<u64> = found.iter().map(|planned| planned.revision.0).collect();
            assert!(revisions.is_sorted(), "{}", shown(&found));
            revisions.dedup();
            assert_eq!(revisions, [1, 2, 3]);
            for subject in lines.iter().map(|line| &line.subject) {
                assert!(found.iter().any(|planned| planned.subject == *subject));
            }
        }
    }

    #[test]
    fn where_reading_goes_on() {
        assert_eq!(Place::behind(Revision(7)).read_after(), Revision(7));
        assert_eq!(Place { revision: Revision(7), rank: 2, a: 5, b: 0 }.read_after(), Revision(6));
        assert_eq!(Place { revision: Revision(0), rank: 2, a: 5, b: 0 }.read_after(), Revision(0));
    }

    #[test]
    fn starts_are_served_or_not() {
        use v1::TooOldReason::{ChangesDropped, StoreReplaced, StoreRestored};
        #[track_caller]
        fn check(after: u64, store_id: &str, era: &str, expected: Reach) {
            // Revisions up to 7 are of an era that is not known any more.
            let stored_era = (after > 7).then_some("b");
            let stored = Stored { store_id: "s", era: stored_era, oldest: Revision(5), newest: Revision(9) };
            let asked = Asked { after: Revision(after), store_id, era, answers: false };
            assert_eq!(reach(asked, stored), expected);
            // Copies say the era, and are served only without one where the store does not know it either.
            let for_copies =
                if era.is_empty() && after > 7 && store_id == "s" { Reach::TooOld(StoreRestored) } else { expected };
            assert_eq!(reach(Asked { answers: true, ..asked }, stored), for_copies);
        }
        check(5, "s", "", Reach::Served);
        check(9, "s", "", Reach::Served);
        check(9, "s", "b", Reach::Served);
        check(4, "s", "", Reach::TooOld(ChangesDropped));
        check(4, "s", "x", Reach::TooOld(ChangesDropped));
        check(0, "", "", Reach::TooOld(ChangesDropped));
        check(10, "s", "", Reach::Ahead);
        check(10, "s", "b", Reach::Ahead);
        check(10, "t", "", Reach::TooOld(StoreReplaced));
        check(7, "t", "b", Reach::TooOld(StoreReplaced));
        // Put back: below and above of where the store is by now.
        check(9, "s", "x", Reach::TooOld(StoreRestored));
        check(10, "s", "x", Reach::TooOld(StoreRestored));
        check(7, "s", "x", Reach::TooOld(ChangesDropped));
    }

    #[test]
    fn messages_are_bounded() {
        #[track_caller]
        fn check(events: usize, id_bytes: usize, expected: &[usize]) {
            let key = v1::RowKey { key: Some(v1::row_key::Key::UserId("x".repeat(id_bytes))) };
            let event = v1::ChangeEvent { revision: 1, event: Some(v1::change_event::Event::Delete(key)) };
            let found: Vec<usize> = batches(vec![event; events]).iter().map(|message| message.events.len()).collect();
            assert_eq!(found, expected);
        }
        check(0, 1, &[]);
        check(1, 1, &[1]);
        check(500, 1, &[500]);
        check(1_001, 1, &[500, 500, 1]);
        check(5, BATCH_BYTES_MAX / 2 - 100, &[2, 2, 1]);
        check(2, BATCH_BYTES_MAX * 2, &[1, 1]);
    }
}
