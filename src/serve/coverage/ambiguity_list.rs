//! `Coverage.ListAmbiguities`: names that several accounts of an app have. Entry point: [`list_ambiguities`].
//!
//! Names are found by their keys, in the order of which the list is: a page ends at a key, or within one at a number.

use okta_idmap_proto::limits::CANDIDATES_MAX as SHOWN_MAX;
use okta_idmap_proto::v1;
use xxhash_rust::xxh3::xxh3_64;

use super::super::apps::AppQuery;
use super::super::ask::Ask;
use super::super::door;
use super::super::errors::Failure;
use super::super::gaps::Wide;
use super::super::listing::{SCAN_ROWS_MAX, began, bind, fitting, read_token};
use super::super::page::{PageToken, Paged};

use super::super::resolution::{count, tier_to_proto};
use super::super::rows::{Shower, app_ref, unseen_user_ref, user_ref};
use super::super::subjects::{app_subject, find_app};
use super::super::withhold::Withholds as _;
use super::COMPARED_MAX;
use super::template_list::list_by_template;
use crate::core::model::{App, AppUser};
use crate::core::normalize::LookupKey;
use crate::core::resolve::{CANDIDATES_MAX, SharedName, Tier, shared_names};

/// Place of a name among those of one key: its tier and a hash. The first is before all names.
type NamePlace = (u8, u64);

/// Where a page begins: the app, the key from which on, and the last name of that key which was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    app: String,
    from: i64,
    shown: NamePlace,
}

/// Behind which no name comes.
const BEFORE_ALL: NamePlace = (0, 0);

fn place_of(name: &SharedName<'_>) -> NamePlace {
    let tier = match name.tier {
        Tier::ExternalId => 1,
        Tier::UserNameExact => 2,
        Tier::UserNameNormalized => 3,
        _ => 4,
    };
    (tier, xxh3_64(name.name.as_str().as_bytes()))
}

impl Place {
    fn at(app: &App, from: i64) -> Self {
        Self { app: app.id.as_str().to_owned(), from, shown: BEFORE_ALL }
    }

    fn write(&self) -> Vec<u8> {
        let (tier, hash) = self.shown;
        [&self.from.to_be_bytes()[..], &[tier], &hash.to_be_bytes(), self.app.as_bytes()].concat()
    }

    fn read(bytes: &[u8]) -> Result<Self, Failure> {
        let place = || {
            let (from, rest) = bytes.split_first_chunk::<8>()?;
            let (tier, rest) = rest.split_first_chunk::<1>()?;
            let (hash, app) = rest.split_first_chunk::<8>()?;
            let app = std::str::from_utf8(app).ok()?.to_owned();
            Some(Self { app, from: i64::from_be_bytes(*from), shown: (tier[0], u64::from_be_bytes(*hash)) })
        };
        place().ok_or(Failure::PageTokenInvalid { detail: "it is malformed" })
    }
}

/// Answers the request.
pub(super) fn list_ambiguities(
    ask: &Ask<'_>,
    request: &v1::ListAmbiguitiesRequest,
) -> Result<v1::ListAmbiguitiesResponse, Failure> {
    match v1::AmbiguityBasis::try_from(request.basis) {
        Ok(v1::AmbiguityBasis::Unspecified | v1::AmbiguityBasis::Names) => list_by_names(ask, request),
        Ok(v1::AmbiguityBasis::Template) => list_by_template(ask, request),
        Err(_) => {
            let detail = format!("{} is not allowed here", request.basis);
            Err(Failure::FieldInvalid { field: "basis", detail })
        }
    }
}

fn list_by_names(ask: &Ask<'_>, request: &v1::ListAmbiguitiesRequest) -> Result<v1::ListAmbiguitiesResponse, Failure> {
    let page_size = door::page_size(request.page_size)?;
    let binding = bind(ask, Paged::Ambiguities, request);
    let token = read_token(ask, &request.page_token, &binding)?;
    let start = began(ask, token.as_ref());
    let place = token.map(|token| Place::read(&token.position)).transpose()?;
    let shower = Shower::new(ask);
    let mut gaps = ask.wide_gaps(Wide::Org)?;
    let (mut subject, mut apps): (_, Vec<&App>) = (None, ask.apps()?.iter().collect());
    if request.app.is_some() {
        let (outcome, app, of_app) = find_app(ask, &AppQuery::read("app", request.app.as_ref())?)?;
        gaps.merge(of_app);
        subject = Some(app_subject(outcome, app, &shower));
        apps = app.into_iter().collect();
        if place.as_ref().is_some_and(|place| apps.iter().any(|app| app.id.as_str() != place.app)) {
            return Err(Failure::PageTokenExpired { detail: "the selector leads to something else now" });
        }
    }
    // Names of an app with one account for everybody say nothing about anybody.
    apps.retain(|app| !app.is_shared_account() && !ask.withholds_app(&app.id));
    apps.sort_by(|left, right| left.id.cmp(&right.id));
    fitting(page_size, |limit| {
        let mut page = Page { ask, limit, scan_rows: SCAN_ROWS_MAX, ambiguities: Vec::new(), scanned: 0, compared: 0 };
        let next = page.fill(&apps, place.as_ref())?;
        let next_page_token =
            next.map(|place| PageToken { start, position: place.write() }.encode(&binding)).unwrap_or_default();
        Ok(v1::ListAmbiguitiesResponse {
            meta: Some(ask.meta(&gaps)),
            next_page_token,
            app: subject.clone(),
            ambiguities: page.ambiguities,
            template: None,
        })
    })
}

/// A page as it fills.
struct Page<'a> {
    ask: &'a Ask<'a>,
    limit: usize,
    /// Keys that are looked at.
    scan_rows: usize,
    ambiguities: Vec<v1::Ambiguity>,
    /// Keys that have been looked at.
    scanned: usize,
    /// Accounts that were compared.
    compared: usize,
}

impl Page<'_> {
    /// Whether no further name fits; what has been scanned is looked through all the same, so that each page gets on.
    fn is_full(&self) -> bool {
        self.ambiguities.len() >= self.limit || self.compared >= COMPARED_MAX
    }

    /// Returns where the next page begins.
    fn fill(&mut self, apps: &[&App], place: Option<&Place>) -> Result<Option<Place>, Failure> {
        // An app that went is passed by.
        let is_before = |app: &&App| place.is_some_and(|place| app.id.as_str() < place.app.as_str());
        for app in apps.iter().skip(apps.partition_point(is_before)) {
            let begin = place.filter(|place| place.app == app.id.as_str()).cloned();
            let next = self.fill_from_app(app, begin.unwrap_or_else(|| Place::at(app, i64::MIN)))?;
            if next.is_some() {
                return Ok(next);
            }
        }
        Ok(None)
    }

    fn fill_from_app(&mut self, app: &App, mut place: Place) -> Result<Option<Place>, Failure> {
        loop {
            if self.is_full() || self.scanned >= self.scan_rows {
                return Ok(Some(place));
            }
            let keys = self.ask.snapshot.shared_keys(&app.id, place.from, self.scan_rows)?;
            self.scanned += keys.scanned;
            for key in &keys.shared {
                if place.from != key.to_stored() {
                    place = Place::at(app, key.to_stored());
                }
                if self.is_full() {
                    return Ok(Some(place));
                }
                if let Some(shown) = self.add_names_of(app, *key, place.shown)? {
                    return Ok(Some(Place { shown, ..place }));
                }
            }
            match keys.next {
                Some(next) => place = Place::at(app, next),
                None => return Ok(None),
            }
        }
    }

    /// Adds the names of a key behind the one that was shown last. Returns the last one that is shown where not all fit.
    fn add_names_of(&mut self, app: &App, key: LookupKey, shown: NamePlace) -> Result<Option<NamePlace>, Failure> {
        let mut accounts = self.ask.snapshot.accounts_by_key(&app.id, key, CANDIDATES_MAX)?;
        self.compared += accounts.len();
        accounts.retain(|account| !self.ask.withholds_account(&account.app, &account.user));
        let accounts: Vec<&AppUser> = accounts.iter().collect();
        let names = shared_names(&accounts, self.ask.policy().name_rule(app));
        let mut names: Vec<(NamePlace, &SharedName<'_>)> = names.iter().map(|name| (place_of(name), name)).collect();
        names.sort_by_key(|(place, _)| *place);
        let overrides = self.ask.snapshot.overrides_with_key(&app.id, key)?;
        let overrides = overrides.iter().filter(|record| self.ask.now < record.entry.expires_at).count();
        let mut last = shown;
        for (place, name) in names.into_iter().filter(|(place, _)| *place > shown) {
            if self.ambiguities.len() >= self.limit {
                return Ok(Some(last));
            }
            let ambiguity = v1::Ambiguity { override_count: count(overrides), ..self.to_proto(app, name)? };
            self.ambiguities.push(ambiguity);
            last = place;
        }
        Ok(None)
    }

    fn to_proto(&self, app: &App, name: &SharedName<'_>) -> Result<v1::Ambiguity, Failure> {
        let shower = Shower::new(self.ask);
        let tier = tier_to_proto(name.tier).into();
        let mut candidates = Vec::new();
        for account in name.holders.iter().take(SHOWN_MAX) {
            let user = self.ask.snapshot.user(&account.user)?;
            let user = user.as_ref().map_or_else(|| unseen_user_ref(&account.user), user_ref);
            candidates.push(v1::Candidate { user: Some(user), app_user: Some(shower.app_user(account)), tier });
        }
        Ok(v1::Ambiguity {
            app: Some(app_ref(app)),
            tier,
            normalized_value: name.name.as_str().to_owned(),
            candidates,
            candidate_count: count(name.holders.len()),
            override_count: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_back() {
        let place = Place { app: "0oa1".to_owned(), from: -7, shown: (3, u64::MAX) };
        assert_eq!(Place::read(&place.write()).unwrap(), place);
        for malformed in [&[0; 3][..], &[0; 16], &[0xff; 18]] {
            assert_eq!(Place::read(malformed).map_err(|failure| failure.name()), Err("PAGE_TOKEN_INVALID"));
        }
    }
}
