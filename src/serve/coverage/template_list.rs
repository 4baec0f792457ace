//! `Coverage.ListAmbiguities` by a user name template: names that the template would make equal.
//!
//! Entry point: [`list_by_template`].
//!
//! No index knows such names. Each page looks through all users, keeps a hash and a number of each, and reads again those
//! whose hashes are equal: pages are in the order of the hashes, and end between them.
//!
//! Invariants:
//! - One page is made at a time for each org, of at most [`USERS_MAX`] users.
//! - An answer without rows says whether that means anything: see [`v1::TemplatePrediction`].

use std::collections::BTreeMap;

use okta_idmap_proto::limits::CANDIDATES_MAX as SHOWN_MAX;
use okta_idmap_proto::v1::{self, TemplateOutcome};
use xxhash_rust::xxh3::xxh3_64;

use super::super::apps::AppQuery;
use super::super::ask::Ask;
use super::super::door;
use super::super::errors::Failure;
use super::super::gaps::Wide;
use super::super::listing::{SCAN_ROWS_MAX, began, bind, fitting, read_token};
use super::super::page::{PageToken, Paged};
use super::super::resolution::tier_to_proto;
use super::super::rows::{Shower, app_ref, user_ref};
use super::super::subjects::{app_subject, find_app};
use super::super::withhold::Withholds as _;
use super::COMPARED_MAX;
use crate::core::model::{App, AppUser, User};
use crate::core::normalize::{Identifier, NameRule, NormalizedName};
use crate::core::resolve::{CANDIDATES_MAX, Tier};
use crate::core::template::Template;

/// Users that are looked through for one page. A hash and a number of each take 16 bytes, 80 MB in all and up to twice that
/// while they grow; each account in the app takes half as much.
const USERS_MAX: usize = 5_000_000;

/// Where a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    app: String,
    /// Hash of the first name.
    from: u64,
}

impl Place {
    fn write(&self) -> Vec<u8> {
        [&self.from.to_be_bytes()[..], self.app.as_bytes()].concat()
    }

    fn read(bytes: &[u8]) -> Result<Self, Failure> {
        let place = || {
            let (from, app) = bytes.split_first_chunk::<8>()?;
            Some(Self { app: std::str::from_utf8(app).ok()?.to_owned(), from: u64::from_be_bytes(*from) })
        };
        place().ok_or(Failure::PageTokenInvalid { detail: "it is malformed" })
    }
}

/// Answers the request.
///
/// # Errors
/// Those of all lists; [`Failure::FieldMissing`] without an app; [`Failure::Overloaded`] while another page is made.
pub(super) fn list_by_template(
    ask: &Ask<'_>,
    request: &v1::ListAmbiguitiesRequest,
) -> Result<v1::ListAmbiguitiesResponse, Failure> {
    let page_size = door::page_size(request.page_size)?;
    if request.app.is_none() {
        return Err(Failure::FieldMissing { field: "app" });
    }
    let query = AppQuery::read("app", request.app.as_ref())?;
    let binding = bind(ask, Paged::Ambiguities, request);
    let token = read_token(ask, &request.page_token, &binding)?;
    let start = began(ask, token.as_ref());
    let place = token.map(|token| Place::read(&token.position)).transpose()?;
    let (outcome, app, mut gaps) = find_app(ask, &query)?;
    if place.as_ref().is_some_and(|place| app.is_some_and(|app| app.id.as_str() != place.app)) {
        return Err(Failure::PageTokenExpired { detail: "the selector leads to something else now" });
    }
    let shower = Shower::new(ask);
    let mut response =
        v1::ListAmbiguitiesResponse { app: Some(app_subject(outcome, app, &shower)), ..Default::default() };
    let Some(app) = app else { return Ok(v1::ListAmbiguitiesResponse { meta: Some(ask.meta(&gaps)), ..response }) };

    let rule = ask.policy().name_rule(app);
    let spelled = app.user_name_template.as_deref().unwrap_or_default();
    let told = |outcome: TemplateOutcome, obstacle: String, left_out: u64| v1::TemplatePrediction {
        template: spelled.to_owned(),
        outcome: outcome.into(),
        obstacle,
        left_out_user_count: left_out,
    };
    let template = match template_of(app) {
        // Whoever has no two logins has no two such names; nothing has to be looked through, and no gap hides any.
        Ok(template) if template.is_login() && rule == NameRule::Exact => {
            response.template = Some(told(TemplateOutcome::Predicted, String::new(), 0));
            return Ok(v1::ListAmbiguitiesResponse { meta: Some(ask.meta(&gaps)), ..response });
        }
        Ok(template) => template,
        Err(obstacle) => {
            response.template = Some(told(TemplateOutcome::Unpredictable, obstacle, 0));
            return Ok(v1::ListAmbiguitiesResponse { meta: Some(ask.meta(&gaps)), ..response });
        }
    };
    gaps.merge(ask.wide_gaps(Wide::Org)?);
    response.meta = Some(ask.meta(&gaps));

    let _place = ask.view.place_for_whole_scan()?;
    let from = place.map_or(0, |place| place.from);
    let Some(names) = Names::read(ask, app, &template, rule, from, USERS_MAX)? else {
        let obstacle = format!("the org has more than {USERS_MAX} users");
        response.template = Some(told(TemplateOutcome::TooManyUsers, obstacle, 0));
        return Ok(response);
    };
    response.template = Some(told(TemplateOutcome::Predicted, String::new(), names.left_out));
    let page = Page { ask, app, template: &template, rule };
    fitting(page_size, |limit| {
        let (ambiguities, next) = page.fill(&names, limit)?;
        let next = next.map(|from| Place { app: app.id.as_str().to_owned(), from });
        let token = |place: Place| PageToken { start, position: place.write() }.encode(&binding);
        Ok(v1::ListAmbiguitiesResponse {
            ambiguities,
            next_page_token: next.map(token).unwrap_or_default(),
            ..response.clone()
        })
    })
}

/// The template by which names are made, or what stands in the way.
fn template_of(app: &App) -> Result<Template, String> {
    if app.is_shared_account() {
        return Err("everybody has the same account in the app".to_owned());
    }
    Template::parse(app.user_name_template.as_deref().unwrap_or_default()).map_err(|why| why.to_string())
}

/// The name as it would be given, and as it is compared.
fn predicted(template: &Template, user: &User, rule: NameRule) -> Option<(String, NormalizedName)> {
    let raw = template.predict(user)?;
    // What is no identifier cannot be asked for.
    let name = Identifier::new(&raw).ok()?.normalize(rule);
    Some((raw, name))
}

/// Users whose names may be equal.
struct Names {
    /// Hash of the name and number of the user, ordered.
    users: Vec<(u64, i64)>,
    /// Numbers of the users who have an account in the app, ordered.
    holders: Vec<i64>,
    /// Users whose name cannot be told.
    left_out: u64,
}

impl Names {
    /// Those from a hash on; `None` where there are more than `users_max` users.
    fn read(
        ask: &Ask<'_>,
        app: &App,
        template: &Template,
        rule: NameRule,
        from: u64,
        users_max: usize,
    ) -> Result<Option<Self>, Failure> {
        let holders = ask.snapshot.user_numbers_of_app(&app.id, users_max + 1)?;
        if holders.len() > users_max {
            return Ok(None);
        }
        let mut names = Self { users: Vec::new(), holders, left_out: 0 };
        let (mut after, mut seen) = (None, 0);
        loop {
            let users = ask.snapshot.numbered_users(after, SCAN_ROWS_MAX)?;
            seen += users.len();
            if seen > users_max {
                return Ok(None);
            }
            for (number, user) in &users {
                if !ask.policy().user_grants(&user.status) && !names.has_account(*number) {
                    continue;
                }
                match predicted(template, user, rule) {
                    Some((_, name)) => {
                        let hash = xxh3_64(name.as_str().as_bytes());
                        if hash >= from {
                            names.users.push((hash, *number));
                        }
                    }
                    None => names.left_out += 1,
                }
            }
            after = users.last().map(|(number, _)| *number);
            if users.len() < SCAN_ROWS_MAX {
                break;
            }
        }
        names.users.sort_unstable();
        Ok(Some(names))
    }

    fn has_account(&self, user: i64) -> bool {
        self.holders.binary_search(&user).is_ok()
    }

    /// Users with one hash, of whom at least one has an account: hash and numbers, those with an account first.
    fn shared(&self) -> impl Iterator<Item = (u64, Vec<i64>)> {
        let runs = self.users.chunk_by(|left, right| left.0 == right.0).filter(|run| run.len() > 1);
        runs.filter_map(|run| {
            let numbers = || run.iter().map(|(_, number)| *number);
            let has_account = |number: &i64| self.has_account(*number);
            if !numbers().any(|number| has_account(&number)) {
                return None;
            }
            let others = numbers().filter(|number| !has_account(number));
            Some((run.first()?.0, numbers().filter(has_account).chain(others).take(CANDIDATES_MAX).collect()))
        })
    }
}

/// A user who would have a name.
struct Holder {
    raw: String,
    user: User,
    account: Option<AppUser>,
}

struct Page<'a> {
    ask: &'a Ask<'a>,
    app: &'a App,
    template: &'a Template,
    rule: NameRule,
}

impl Page<'_> {
    /// The names of a page, and the hash with which the next one begins.
    fn fill(&self, names: &Names, limit: usize) -> Result<(Vec<v1::Ambiguity>, Option<u64>), Failure> {
        let (mut shown, mut compared) = (Vec::new(), 0);
        for (hash, users) in names.shared() {
            if shown.len() >= limit || compared >= COMPARED_MAX {
                return Ok((shown, Some(hash)));
            }
            compared += users.len();
            // All names of a hash, which is one but for a collision of hashes: a page ends between them.
            shown.extend(self.names_of(&users)?);
        }
        Ok((shown, None))
    }

    /// The names that several of these users would have and one of them with an account.
    fn names_of(&self, users: &[i64]) -> Result<Vec<v1::Ambiguity>, Failure> {
        let ask = self.ask;
        let mut by_name: BTreeMap<NormalizedName, Vec<Holder>> = BTreeMap::new();
        for number in users {
            let Some(user) = ask.snapshot.user_by_n(*number)? else { continue };
            let account = ask.snapshot.app_user(&self.app.id, &user.id)?;
            // Nobody is called unassigned because the account is withheld.
            if ask.withholds_account(&self.app.id, &user.id) {
                continue;
            }
            if let Some((raw, name)) = predicted(self.template, &user, self.rule) {
                by_name.entry(name).or_default().push(Holder { raw, user, account });
            }
        }
        let is_shared = |holders: &[Holder]| holders.len() > 1 && holders.iter().any(|holder| holder.account.is_some());
        let shared = by_name.into_iter().filter(|(_, holders)| is_shared(holders));
        shared.map(|(name, holders)| self.to_proto(&name, holders)).collect()
    }

    fn to_proto(&self, name: &NormalizedName, mut holders: Vec<Holder>) -> Result<v1::Ambiguity, Failure> {
        holders.sort_by(|left, right| {
            let place = |holder: &Holder| holder.account.is_none();
            place(left).cmp(&place(right)).then_with(|| left.user.id.cmp(&right.user.id))
        });
        let is_exact = holders.iter().all(|holder| holders.first().is_some_and(|first| first.raw == holder.raw));
        let tier = if is_exact { Tier::UserNameExact } else { Tier::UserNameNormalized };
        let shower = Shower::new(self.ask);
        let candidate = |holder: &Holder| v1::Candidate {
            user: Some(user_ref(&holder.user)),
            app_user: holder.account.as_ref().map(|account| shower.app_user(account)),
            tier: v1::MatchTier::Unspecified.into(),
        };
        // All spellings that the app's rule makes equal have one key. Where the template asks for a naming context, which nobody
        // here knows, the name is not the real one, and overrides of the real one are not counted.
        let key = holders.first().and_then(|first| Identifier::new(&first.raw).ok()).map(|raw| raw.lookup_key());
        let overrides =
            key.map(|key| self.ask.snapshot.overrides_with_key(&self.app.id, key)).transpose()?.unwrap_or_default();
        let in_force = overrides.iter().filter(|record| self.ask.now < record.entry.expires_at).count();
        Ok(v1::Ambiguity {
            app: Some(app_ref(self.app)),
            tier: tier_to_proto(tier).into(),
            normalized_value: name.as_str().to_owned(),
            candidates: holders.iter().take(SHOWN_MAX).map(candidate).collect(),
            candidate_count: u32::try_from(holders.len()).unwrap_or(u32::MAX),
            override_count: u32::try_from(in_force).unwrap_or(u32::MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::AppId;
    use crate::serve::ask::Call;
    use crate::serve::tests::World;

    #[test]
    fn places_read_back() {
        let place = Place { app: "0oa1".to_owned(), from: u64::MAX - 7 };
        assert_eq!(Place::read(&place.write()).unwrap(), place);
        for malformed in [&[0; 3][..], &[0xff; 9]] {
            assert_eq!(Place::read(malformed).map_err(|failure| failure.name()), Err("PAGE_TOKEN_INVALID"));
        }
    }

    #[test]
    fn too_many_users_are_not_looked_through() {
        let world = World::new();
        let call = Call::timeless(world.view().clone());
        let is_read = |id: &str, users_max: usize| {
            let read = call.point(|ask| {
                let app = App { id: AppId::new(id).unwrap(), ..ask.apps()?[0].clone() };
                let template = template_of(&app).unwrap();
                Ok(Names::read(ask, &app, &template, NameRule::Default, 0, users_max)?.is_some())
            });
            read.unwrap()
        };
        // An app with an account, and one without.
        for app in ["a", "b"] {
            assert!(is_read(app, 1));
            assert!(!is_read(app, 0));
        }
    }

    #[track_caller]
    fn check(users: &[(u64, i64)], holders: &[i64], expected: &[(u64, &[i64])]) {
        let names = Names { users: users.to_vec(), holders: holders.to_vec(), left_out: 0 };
        let found: Vec<(u64, Vec<i64>)> = names.shared().collect();
        let expected: Vec<(u64, Vec<i64>)> = expected.iter().map(|(hash, users)| (*hash, users.to_vec())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn names_matter_where_somebody_has_an_account() {
        check(&[], &[], &[]);
        check(&[(1, 10), (2, 11)], &[10, 11], &[]);
        check(&[(1, 10), (1, 11), (2, 12), (2, 13)], &[13], &[(2, &[13, 12])]);
        check(&[(1, 10), (1, 11), (1, 12)], &[11, 12], &[(1, &[11, 12, 10])]);
        // Of very many the ones with an account are compared first.
        let many: Vec<(u64, i64)> = (0..5_000).map(|number| (7, number)).collect();
        let names = Names { users: many, holders: vec![4_999], left_out: 0 };
        let (_, users) = names.shared().next().unwrap();
        assert_eq!((users.len(), users[0], users[1]), (CANDIDATES_MAX, 4_999, 0));
    }
}
