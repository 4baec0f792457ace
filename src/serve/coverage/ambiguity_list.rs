//! `Coverage.ListAmbiguities`: names that several accounts of an app have. Entry point: [`list_ambiguities`].
//!
//! Names are found by their keys, in the order of which the list is: a page ends at a key, or within one at a number.

use okta_idmap_proto::limits::CANDIDATES_MAX as SHOWN_MAX;
use okta_idmap_proto::v1;

use super::super::apps::AppQuery;
use super::super::ask::Ask;
use super::super::door;
use super::super::errors::Failure;
use super::super::gaps::Wide;
use super::super::listing::{SCAN_ROWS_MAX, bind, fitting, read_token};
use super::super::page::{PageToken, Paged};

use super::super::resolution::tier_to_proto;
use super::super::rows::{Shower, app_ref, unseen_user_ref, user_ref};
use super::super::subjects::{app_subject, find_app};
use crate::core::model::{App, AppUser};
use crate::core::normalize::LookupKey;
use crate::core::resolve::{CANDIDATES_MAX, SharedName, shared_names};

/// Accounts that are compared for one page.
const COMPARED_MAX: usize = 20_000;

/// Where a page begins: the app, the key from which on, and how many names of that key have been shown.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    app: String,
    from: i64,
    shown: u32,
}

impl Place {
    fn begin_of(app: &App) -> Self {
        Self { app: app.id.as_str().to_owned(), from: i64::MIN, shown: 0 }
    }

    fn write(&self) -> Vec<u8> {
        [&self.from.to_be_bytes()[..], &self.shown.to_be_bytes(), self.app.as_bytes()].concat()
    }

    fn read(bytes: &[u8]) -> Result<Self, Failure> {
        let place = || {
            let (from, rest) = bytes.split_first_chunk::<8>()?;
            let (shown, app) = rest.split_first_chunk::<4>()?;
            let app = std::str::from_utf8(app).ok()?.to_owned();
            Some(Self { app, from: i64::from_be_bytes(*from), shown: u32::from_be_bytes(*shown) })
        };
        place().ok_or(Failure::PageTokenInvalid { detail: "it is malformed" })
    }
}

/// Answers the request.
pub(super) fn list_ambiguities(
    ask: &Ask<'_>,
    request: &v1::ListAmbiguitiesRequest,
) -> Result<v1::ListAmbiguitiesResponse, Failure> {
    let page_size = door::page_size(request.page_size)?;
    let binding = bind(ask, Paged::Ambiguities, request);
    let token = read_token(ask, &request.page_token, binding)?;
    let start = token.as_ref().map_or(ask.snapshot.revision(), |token| token.start);
    let place = token.map(|token| Place::read(&token.position)).transpose()?;
    let shower = Shower::new(ask);
    let mut gaps = ask.wide_gaps(Wide::Org)?;
    let (mut subject, mut apps): (_, Vec<&App>) = (None, ask.apps()?.iter().collect());
    if request.app.is_some() {
        let (outcome, app, of_app) = find_app(ask, &AppQuery::read("app", request.app.as_ref())?)?;
        gaps.merge(of_app);
        subject = Some(app_subject(outcome, app, &shower));
        apps = app.into_iter().collect();
    }
    // Names of an app with one account for everybody say nothing about anybody.
    apps.retain(|app| !app.is_shared_account() && !ask.withholds_app(&app.id));
    apps.sort_by(|left, right| left.id.cmp(&right.id));
    fitting(page_size, |limit| {
        let mut page = Page { ask, limit, ambiguities: Vec::new(), scanned: 0, compared: 0 };
        let next = page.fill(&apps, place.as_ref())?;
        let next_page_token =
            next.map(|place| PageToken { start, position: place.write() }.encode(binding)).unwrap_or_default();
        Ok(v1::ListAmbiguitiesResponse {
            meta: Some(ask.meta(&gaps)),
            next_page_token,
            app: subject.clone(),
            ambiguities: page.ambiguities,
        })
    })
}

/// A page as it fills.
struct Page<'a> {
    ask: &'a Ask<'a>,
    limit: usize,
    ambiguities: Vec<v1::Ambiguity>,
    /// Keys that were looked at.
    scanned: usize,
    /// Accounts that were compared.
    compared: usize,
}

impl Page<'_> {
    fn is_full(&self) -> bool {
        self.ambiguities.len() >= self.limit || self.scanned >= SCAN_ROWS_MAX || self.compared >= COMPARED_MAX
    }

    /// Returns where the next page begins.
    fn fill(&mut self, apps: &[&App], place: Option<&Place>) -> Result<Option<Place>, Failure> {
        // An app that went is passed by.
        let is_before = |app: &&App| place.is_some_and(|place| app.id.as_str() < place.app.as_str());
        for app in apps.iter().skip(apps.partition_point(is_before)) {
            let begin = place.filter(|place| place.app == app.id.as_str()).cloned();
            let next = self.fill_from_app(app, begin.unwrap_or_else(|| Place::begin_of(app)))?;
            if next.is_some() {
                return Ok(next);
            }
        }
        Ok(None)
    }

    fn fill_from_app(&mut self, app: &App, mut place: Place) -> Result<Option<Place>, Failure> {
        loop {
            if self.is_full() {
                return Ok(Some(place));
            }
            let keys = self.ask.snapshot.shared_keys(&app.id, place.from, SCAN_ROWS_MAX)?;
            self.scanned += keys.scanned;
            for key in &keys.shared {
                if place.from != key.to_stored() {
                    place = Place { from: key.to_stored(), shown: 0, ..place };
                }
                if self.is_full() {
                    return Ok(Some(place));
                }
                if let Some(shown) = self.add_names_of(app, *key, place.shown)? {
                    return Ok(Some(Place { shown, ..place }));
                }
            }
            match keys.next {
                Some(next) => place = Place { from: next, shown: 0, ..place },
                None => return Ok(None),
            }
        }
    }

    /// Adds the names of a key behind the first `skipped`. Returns how many are shown where not all of them fit.
    fn add_names_of(&mut self, app: &App, key: LookupKey, skipped: u32) -> Result<Option<u32>, Failure> {
        let mut accounts = self.ask.snapshot.accounts_by_key(&app.id, key, CANDIDATES_MAX)?;
        self.compared += accounts.len();
        accounts.retain(|account| !self.ask.withholds_account(&account.app, &account.user));
        let accounts: Vec<&AppUser> = accounts.iter().collect();
        let names = shared_names(&accounts, self.ask.policy().name_rule(app));
        for (shown, name) in (skipped..).zip(names.iter().skip(skipped as usize)) {
            if self.ambiguities.len() >= self.limit {
                return Ok(Some(shown));
            }
            let ambiguity = self.to_proto(app, name)?;
            self.ambiguities.push(ambiguity);
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
            candidate_count: u32::try_from(name.holders.len()).unwrap_or(u32::MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_back() {
        let place = Place { app: "0oa1".to_owned(), from: -7, shown: 3 };
        assert_eq!(Place::read(&place.write()).unwrap(), place);
        for malformed in [&[0; 3][..], &[0; 11], &[0xff; 13]] {
            assert_eq!(Place::read(malformed).map_err(|failure| failure.name()), Err("PAGE_TOKEN_INVALID"));
        }
    }
}
