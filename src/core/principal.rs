//! Principals: the strings that are indexed with a document and put into the filter of a query.
//!
//! Entry point: [`Encoder::encode`], the only way to make one, for documents and for people alike. The form is described in
//! `docs/principals.md`; `docs/principals/vectors.json` holds examples that every version of this encoder must give.
//!
//! ```text
//! oidm1:<org>:user:<user>
//! oidm1:<org>:group:<app>:<group>
//! oidm1:<org>:deny-all
//! oidm1:<org>:match-nothing
//! ```
//!
//! Invariants:
//! - Injective: two principals are equal only if kind and ids are. No id can hold the separator, and a kind has as many ids
//!   as it has.
//! - Made of ids only, never of names: what can be edited or given to somebody else is in no principal.
//! - Bound to an org by Okta's id of it: two orgs share no principal, whatever they are called.
//! - [`ENCODER_VERSION`] stands in every string, so strings of two versions never match each other.

use super::ids::{AppId, GroupId, OKTA_ID_BYTES_MAX, OrgId, UserId};

/// Version of the encoding. A larger one means that every document is to be indexed again; the version is raised with
/// any change of the form or of what a kind means.
pub const ENCODER_VERSION: u32 = 1;

/// Bytes of the longest principal, three ids of [`OKTA_ID_BYTES_MAX`] bytes. Real ones have about 75.
pub const PRINCIPAL_BYTES_MAX: usize = "oidm1::group::".len() + 3 * OKTA_ID_BYTES_MAX;

/// What a principal stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Principal<'a> {
    /// A person.
    User(&'a UserId),
    /// The members of a group who have an active account in the app. The app is part of it: a document of the app that is
    /// shared with a group is not shared with those of the group who cannot use the app.
    AppGroup {
        /// The app that the document is in.
        app: &'a AppId,
        /// The group.
        group: &'a GroupId,
    },
    /// Of a document that nobody may see. No person has it.
    DenyAll,
    /// Of a person who may see nothing. No document has it.
    MatchNothing,
}

/// Encodes the principals of one org.
#[derive(Clone, Debug)]
pub struct Encoder {
    org: OrgId,
}

impl Encoder {
    /// An encoder for an org.
    pub const fn new(org: OrgId) -> Self {
        Self { org }
    }

    /// The encoder that made a principal [`Principal::DenyAll`]; `None` if this one, of its version, did not.
    pub fn of_deny_all(principal: &str) -> Option<Self> {
        let (_, org) = principal.strip_suffix(":deny-all")?.split_once(':')?;
        let encoder = Self::new(OrgId::new(org).ok()?);
        (encoder.encode(Principal::DenyAll) == principal).then_some(encoder)
    }

    /// The principal as a string: ASCII, at most [`PRINCIPAL_BYTES_MAX`] bytes, to be compared byte by byte.
    pub fn encode(&self, principal: Principal<'_>) -> String {
        let org = &self.org;
        match principal {
            Principal::User(user) => format!("oidm{ENCODER_VERSION}:{org}:user:{user}"),
            Principal::AppGroup { app, group } => format!("oidm{ENCODER_VERSION}:{org}:group:{app}:{group}"),
            Principal::DenyAll => format!("oidm{ENCODER_VERSION}:{org}:deny-all"),
            Principal::MatchNothing => format!("oidm{ENCODER_VERSION}:{org}:match-nothing"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use expect_test::expect_file;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn org(raw: &str) -> OrgId {
        OrgId::new(raw).unwrap()
    }

    fn vector(org_id: &str, kind: &str, ids: &[&str]) -> Value {
        let [app, user, group] = match (kind, ids) {
            ("user", [user]) => [None, Some(*user), None],
            ("group", [app, group]) => [Some(*app), None, Some(*group)],
            _ => [None; 3],
        };
        let (app_id, group_id) = (AppId::new(app.unwrap_or("-")).unwrap(), GroupId::new(group.unwrap_or("-")).unwrap());
        let user_id = UserId::new(user.unwrap_or("-")).unwrap();
        let principal = match kind {
            "user" => Principal::User(&user_id),
            "group" => Principal::AppGroup { app: &app_id, group: &group_id },
            "deny-all" => Principal::DenyAll,
            _ => Principal::MatchNothing,
        };
        let principal = Encoder::new(org(org_id)).encode(principal);
        let mut vector = json!({"org_id": org_id, "kind": kind});
        for (name, id) in [("user_id", user), ("app_id", app), ("group_id", group)] {
            if let Some(id) = id {
                vector[name] = id.into();
            }
        }
        vector["principal"] = principal.into();
        vector
    }

    /// The published examples. They change only together with [`ENCODER_VERSION`].
    #[test]
    fn the_published_vectors_are_what_is_encoded() {
        let longest = "z".repeat(OKTA_ID_BYTES_MAX);
        let vectors = [
            vector("00o1gjh63g214q0Hq0g4", "user", &["00u1gjh63g214q0Hq0g5"]),
            vector("00o1gjh63g214q0Hq0g4", "group", &["0oa1gjh63g214q0Hq0g6", "00g1gjh63g214q0Hq0g7"]),
            vector("00o1gjh63g214q0Hq0g4", "deny-all", &[]),
            vector("00o1gjh63g214q0Hq0g4", "match-nothing", &[]),
            // Letter case counts, in the org too.
            vector("00O1GJH63G214Q0HQ0G4", "user", &["00U1GJH63G214Q0HQ0G5"]),
            // Ids that look like kinds.
            vector("user", "user", &["deny-all"]),
            vector("user", "group", &["user", "match-nothing"]),
            // Every character that an id may have beside letters and digits.
            vector("-", "user", &["a-b_c.d~e"]),
            vector(&longest, "group", &[&longest, &longest]),
        ];
        let file = json!({"encoder_version": ENCODER_VERSION, "vectors": vectors});
        let text = serde_json::to_string_pretty(&file).unwrap() + "\n";
        expect_file!["../../docs/principals/vectors.json"].assert_eq(&text);
    }

    /// Reads a principal back; what is in it decides alone.
    fn decode(text: &str) -> Option<(String, String, Vec<String>)> {
        let mut parts = text.strip_prefix("oidm1:")?.split(':').map(str::to_owned);
        Some((parts.next()?, parts.next()?, parts.collect()))
    }

    #[test]
    fn an_encoder_is_known_by_its_deny_all() {
        #[track_caller]
        fn check(principal: &str, org_id: Option<&str>) {
            let found = Encoder::of_deny_all(principal).map(|encoder| encoder.org.to_string());
            assert_eq!(found.as_deref(), org_id, "{principal:?}");
        }
        check("oidm1:00o1gjh63g214q0Hq0g4:deny-all", Some("00o1gjh63g214q0Hq0g4"));
        check("oidm1:deny-all:deny-all", Some("deny-all"));
        // Of another version, of another kind, or of nobody.
        check("oidm2:00o1:deny-all", None);
        check("oidm1:00o1:match-nothing", None);
        check("oidm1:00o1:user:deny-all", None);
        check("oidm1:00o1:deny-all ", None);
        check("oidm1::deny-all", None);
        check("oidm1:deny-all", None);
        check("", None);
    }

    #[test]
    fn the_longest_one_has_its_place() {
        let id = "x".repeat(OKTA_ID_BYTES_MAX);
        let (app, group) = (AppId::new(&id).unwrap(), GroupId::new(&id).unwrap());
        let longest = Encoder::new(org(&id)).encode(Principal::AppGroup { app: &app, group: &group });
        assert_eq!(longest.len(), PRINCIPAL_BYTES_MAX);
        const { assert!(PRINCIPAL_BYTES_MAX <= okta_idmap_proto::limits::PRINCIPAL_BYTES_MAX) }
    }

    #[test]
    fn no_id_can_hold_the_separator() {
        for bad in [":", "a:b", "00u1:", ":00u1", "a\0b", "ä", "a b", "a%3Ab", ""] {
            assert!(UserId::new(bad).is_err() && OrgId::new(bad).is_err() && AppId::new(bad).is_err(), "{bad:?}");
        }
    }

    /// Short ids of a small alphabet, so that different principals come close to each other.
    const ID: &str = "[a1~.-]{1,3}";

    proptest! {
        #[test]
        fn everything_that_is_encoded_reads_back(
            org_id in "[A-Za-z0-9_~-]{1,40}", a in "[A-Za-z0-9_.~-]{1,127}a", b in ID.prop_filter("no id", |id| id != "." && id != ".."),
        ) {
            let encoder = Encoder::new(org(&org_id));
            let (user, app, group) = (UserId::new(&a).unwrap(), AppId::new(&a).unwrap(), GroupId::new(&b).unwrap());
            let of = |kind: &str, ids: &[&str]| {
                Some((org_id.clone(), kind.to_owned(), ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>()))
            };
            prop_assert_eq!(decode(&encoder.encode(Principal::User(&user))), of("user", &[&a]));
            let in_app = encoder.encode(Principal::AppGroup { app: &app, group: &group });
            prop_assert_eq!(decode(&in_app), of("group", &[&a, &b]));
            prop_assert_eq!(decode(&encoder.encode(Principal::DenyAll)), of("deny-all", &[]));
            prop_assert_eq!(decode(&encoder.encode(Principal::MatchNothing)), of("match-nothing", &[]));
        }
    }

    #[test]
    fn different_principals_are_different_strings() {
        let ids = ["a", "aa", "a-a", "user", "group", "deny-all", "match-nothing", "oidm1"];
        let mut seen: HashMap<String, String> = HashMap::new();
        let mut add = |text: String, what: String| {
            if let Some(other) = seen.insert(text.clone(), what.clone()) {
                panic!("{text} is {other} and {what}");
            }
        };
        for org_id in ids {
            let encoder = Encoder::new(org(org_id));
            add(encoder.encode(Principal::DenyAll), format!("{org_id} deny"));
            add(encoder.encode(Principal::MatchNothing), format!("{org_id} nothing"));
            for a in ids {
                add(encoder.encode(Principal::User(&UserId::new(a).unwrap())), format!("{org_id} user {a}"));
                for b in ids {
                    let (app, group) = (AppId::new(a).unwrap(), GroupId::new(b).unwrap());
                    let principal = Principal::AppGroup { app: &app, group: &group };
                    add(encoder.encode(principal), format!("{org_id} group {a} {b}"));
                }
            }
        }
        assert_eq!(seen.len(), ids.len() * (2 + ids.len() + ids.len() * ids.len()));
    }
}
