//! Principals of a copy: what it gives for documents and people is what the server gives, refusals included.
//!
//! Entry points: [`Questions::random`] and [`Questions::difference`], for the org of the parent module, which changes at random.

use okta_idmap::client::Refusal;
use okta_idmap::core::model::{AppGroup, Group, GroupMember, GroupType};
use okta_idmap_proto::limits::BATCH_ITEMS_MAX;
use okta_idmap_proto::v1::{
    ResolutionOutcome, SubjectOutcome, acl_entry::Principal, app_group_selector::Selector, unresolved_acl_entry::Reason,
};

use super::super::world::{app_by_any, group, user_by_account, user_by_id, user_by_login};
use super::*;

/// Groups that come and go; the last two are assigned to apps, and no list shows them.
const GROUPS: [&str; 8] = ["00gall", "00geng", "00gops", "00gimp", "00gnew1", "00gnew2", "00gunseen2", "00gunseen1"];

const GROUP_NAMES: [&str; 5] = ["Eng-EU", "eng-eu", "Ops", "Everyone", "Ｏps"];

/// Changes of groups are of long ago, so that they end nothing.
const LONG_AGO_MILLIS: i64 = 3 * 86_400_000;

/// Random changes of groups, of who is in them, and of the apps that have them.
pub(super) async fn change_groups(sim: &Sim, random: &mut fastrand::Rng) {
    let mut batch = sim.world.batch();
    batch.now = NOW.plus_millis(-LONG_AGO_MILLIS);
    let group_id = |random: &mut fastrand::Rng| GroupId::new(random.choice(GROUPS).unwrap()).unwrap();
    let app_id = |random: &mut fastrand::Rng| AppId::new(random.choice(APPS).unwrap()).unwrap();
    let who = |random: &mut fastrand::Rng| UserId::new(&user_id(random.usize(..12))).unwrap();
    match random.u8(..14) {
        0..=2 => {
            let id = *random.choice(&GROUPS[1..6]).unwrap();
            let source_app = random.bool().then(|| app_id(random));
            let name = random.choice(GROUP_NAMES).unwrap();
            batch.rows = vec![Row::Group(Group { source_app, ..group(id, name, GroupType::OktaGroup) })];
        }
        3..=5 => {
            let (app, group) = (app_id(random), group_id(random));
            batch.rows = vec![Row::AppGroup(AppGroup { app, group, priority: None, last_updated: None })];
        }
        6..=8 => {
            batch.rows = vec![Row::GroupMember(GroupMember { group: group_id(random), user: who(random) })];
        }
        9 => batch.removals = vec![Key::AppGroup(app_id(random), group_id(random))],
        10 => batch.removals = vec![Key::GroupMember(group_id(random), who(random))],
        11 => batch.removals = vec![Key::Group(group_id(random))],
        12 => batch.rows = vec![Row::Group(group("00gall", "Everyone", GroupType::BuiltIn))],
        _ => {
            let kind = random.choice([GapKind::Forbidden, GapKind::Failed, GapKind::UnseenReference]).unwrap();
            let scope = match random.u8(..4) {
                0 => Scope::GroupMembers(group_id(random)),
                1 => Scope::AppGroups(app_id(random)),
                2 => Scope::Group(group_id(random)),
                _ => Scope::Groups,
            };
            if random.bool() {
                batch.closed_gaps = vec![(scope, kind)];
            } else {
                return sim.world.open_gap(scope, kind, "simulated").await;
            }
        }
    }
    sim.world.commit(batch).await;
}

/// What has come of what was asked.
#[derive(Default)]
pub(super) struct SeenPrincipals {
    subjects: BTreeSet<i32>,
    groups: BTreeSet<i32>,
    refusals: BTreeSet<v1::ErrorReason>,
    in_groups: usize,
    safe: usize,
    here: usize,
    elsewhere: usize,
}

impl SeenPrincipals {
    /// Whether everything came that may come.
    #[track_caller]
    pub(super) fn check(&self) {
        use SubjectOutcome::{Found, NotFound, NotUnique, UnknownGap};
        for outcome in [Found, NotFound, NotUnique, UnknownGap] {
            assert!(self.subjects.contains(&outcome.into()), "{outcome:?} never came");
        }
        use ResolutionOutcome as Of;
        let of_groups =
            [Of::Ambiguous, Of::Inactive, Of::Shared, Of::NotFound, Of::UnknownGap, Of::UnknownApp, Of::AmbiguousApp];
        for outcome in of_groups {
            assert!(self.groups.contains(&outcome.into()), "{outcome:?} of a group never came");
        }
        use v1::ErrorReason::{FieldInvalid, FieldMissing, IdentifierInvalid, TooManyItems};
        for reason in [FieldInvalid, FieldMissing, IdentifierInvalid, TooManyItems] {
            assert!(self.refusals.contains(&reason), "{reason:?} never came");
        }
        let Self { in_groups, safe, here, elsewhere, .. } = self;
        assert!(*in_groups > 20 && *safe > 5, "{in_groups} in groups, {safe} safe");
        assert!(*elsewhere > 0 && here > &(4 * elsewhere), "{here} answered here, {elsewhere} not");
    }
}

/// What is asked at one time.
pub(super) struct Questions {
    people: Vec<v1::ExpandUserRequest>,
    documents: Vec<v1::ResolveAclRequest>,
}

impl Questions {
    /// Everybody, in every way, and some documents.
    pub(super) fn random(random: &mut fastrand::Rng) -> Self {
        let known = (0..12).map(|n| user_by_id(&user_id(n)));
        let hostile = ["00ughost", "00unobody", "a b", "", &"x".repeat(129)].map(user_by_id);
        let logins = NAMES.iter().chain(&["user4", "User11@Example.com", "", "a\0b"]).map(|name| user_by_login(name));
        let mut people: Vec<_> = known.chain(hostile).chain(logins).chain([None, Some(Default::default())]).collect();
        for _ in 0..10 {
            people.push(user_by_account(app(random), random.choice(NAMES).unwrap()));
        }
        let people = people.into_iter().map(|user| v1::ExpandUserRequest { context: None, user }).collect();
        let mut documents: Vec<Vec<v1::AclEntry>> = vec![
            Vec::new(),
            vec![v1::AclEntry::default(); BATCH_ITEMS_MAX],
            vec![entry(random); BATCH_ITEMS_MAX + 1],
            GROUP_NAMES.iter().flat_map(|name| APPS.map(|app| of_group(app, Selector::Name((*name).into())))).collect(),
        ];
        // One that is chosen by its id is safe whatever no list shows.
        documents.extend(GROUPS[..6].iter().map(|id| {
            let app = random.choice(APPS).unwrap();
            vec![of_group(app, Selector::GroupId((*id).to_owned()))]
        }));
        documents.extend((0..40).map(|_| (0..random.usize(1..6)).map(|_| entry(random)).collect()));
        let documents = documents.into_iter().map(|entries| v1::ResolveAclRequest { context: None, entries });
        Self { people, documents: documents.collect() }
    }

    /// Where copy and server differ; `None`: nowhere.
    pub(super) async fn difference(&self, sim: &Sim, copy: &Reflector, seen: &mut SeenPrincipals) -> Option<String> {
        let lookup = sim.services.lookup();
        for request in &self.people {
            let expected = lookup.expand_user(Request::new(request.clone())).await.map(tonic::Response::into_inner);
            let found = copy.read(|mirror, _| mirror.expand_user(request, NOW)).unwrap();
            if let Ok(answer) = &expected {
                let user = answer.user.as_ref().unwrap();
                let is_unknown = user.user.is_none() && user.resolution.is_none();
                if matches!(found, Ok(Answer::OnlyServerKnows)) && is_unknown && is_by_id(request) {
                    seen.elsewhere += 1;
                    continue;
                }
                seen.subjects.insert(user.outcome);
                seen.in_groups += usize::from(answer.principals.len() > 1);
            }
            if let Some(difference) = differ(&found, &expected, seen) {
                return Some(format!("{request:?}\n{difference}"));
            }
        }
        for request in &self.documents {
            let expected = lookup.resolve_acl(Request::new(request.clone())).await.map(tonic::Response::into_inner);
            let found = copy.read(|mirror, _| mirror.resolve_acl(request, NOW)).unwrap();
            if let Ok(answer) = &expected {
                if matches!(found, Ok(Answer::OnlyServerKnows)) && names_unknown_group(request, answer) {
                    seen.elsewhere += 1;
                    continue;
                }
                seen.safe += usize::from(answer.safe_to_index && !answer.deny_all);
                for reason in answer.unresolved.iter().filter_map(|entry| entry.reason.as_ref()) {
                    match reason {
                        Reason::GroupResolution(resolution) => drop(seen.groups.insert(resolution.outcome)),
                        Reason::Error(error) => drop(seen.refusals.insert(error.reason())),
                        Reason::Resolution(_) => {}
                    }
                }
            }
            if let Some(difference) = differ(&found, &expected, seen) {
                return Some(format!("{request:?}\n{difference}"));
            }
        }
        None
    }
}

/// Any app, sometimes one that there is not or that is none.
fn app(random: &mut fastrand::Rng) -> &'static str {
    let further = ["jira", "Jira EU", "JIRA eu", "nonsense", ""];
    if random.u8(..5) > 0 { random.choice(APPS).unwrap() } else { random.choice(further).unwrap() }
}

fn of_group(app: &str, selector: Selector) -> v1::AclEntry {
    let selector = v1::AppGroupSelector { app: app_by_any(app), selector: Some(selector) };
    v1::AclEntry { principal: Some(Principal::AppGroup(selector)) }
}

/// An entry of any kind.
fn entry(random: &mut fastrand::Rng) -> v1::AclEntry {
    let app = app(random);
    let long = "x".repeat(1_025);
    match random.u8(..20) {
        0..=5 => {
            let further = ["nobody", "user4", "Boss", "", "a\0b"];
            let name = if random.bool() { random.choice(NAMES).unwrap() } else { random.choice(further).unwrap() };
            let kind = random.choice([v1::IdentifierKind::Unspecified, v1::IdentifierKind::UserName]).unwrap();
            v1::AclEntry { principal: account(app, name, kind).map(Principal::Account) }
        }
        6..=11 => of_group(app, Selector::Name((*random.choice(GROUP_NAMES).unwrap()).to_owned())),
        12..=15 => of_group(app, Selector::GroupId((*random.choice(&GROUPS[..6]).unwrap()).to_owned())),
        16 => of_group(app, Selector::GroupId((*random.choice(GROUPS).unwrap()).to_owned())),
        17 => of_group(app, Selector::GroupId((*random.choice(["a:b", "", long.as_str()]).unwrap()).to_owned())),
        18 => of_group(app, Selector::Name((*random.choice(["", long.as_str()]).unwrap()).to_owned())),
        _ => {
            let nothing =
                [None, Some(Principal::AppGroup(Default::default())), Some(Principal::Account(Default::default()))];
            v1::AclEntry { principal: random.choice(nothing).unwrap() }
        }
    }
}

fn is_by_id(request: &v1::ExpandUserRequest) -> bool {
    let selector = request.user.as_ref().and_then(|user| user.selector.as_ref());
    matches!(selector, Some(v1::user_selector::Selector::UserId(_)))
}

/// Whether an entry is by the id of a group that the server did not find.
fn names_unknown_group(request: &v1::ResolveAclRequest, answer: &v1::ResolveAclResponse) -> bool {
    answer.unresolved.iter().any(|entry| {
        let asked = &request.entries[usize::try_from(entry.entry_index).unwrap()].principal;
        let is_by_id =
            matches!(asked, Some(Principal::AppGroup(of)) if matches!(of.selector, Some(Selector::GroupId(_))));
        let Some(Reason::GroupResolution(resolution)) = &entry.reason else { return false };
        let outcome = resolution.outcome();
        is_by_id && resolution.app.is_some() && resolution.group.is_none() && outcome != ResolutionOutcome::Ambiguous
    })
}

/// How an answer of the copy differs from that of the server.
fn differ<T: PartialEq + std::fmt::Debug>(
    found: &Result<Answer<T>, Box<Refusal>>,
    expected: &Result<T, tonic::Status>,
    seen: &mut SeenPrincipals,
) -> Option<String> {
    let is_same = match (found, expected) {
        (Ok(Answer::Local(found)), Ok(expected)) => **found == *expected,
        (Err(found), Err(expected)) => {
            let expected = Refusal::from(expected.clone());
            seen.refusals.extend(expected.reason);
            let of = |refusal: &Refusal| {
                let Refusal { code, message, reason, metadata, fields, preconditions, .. } = refusal.clone();
                (code, message, reason, metadata, fields, preconditions)
            };
            of(found) == of(&expected)
        }
        _ => false,
    };
    seen.here += 1;
    (!is_same).then(|| format!("copy:   {found:?}\nserver: {expected:?}"))
}
