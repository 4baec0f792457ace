//! What is asked: requests of each kind, drawn over all users or mostly about some.
//!
//! Entry points: [`Draw`], [`Question`].

use std::str::FromStr;

use bytes::Bytes;
use fastrand::Rng;
use http::uri::PathAndQuery;
use okta_idmap_proto::v1::{self, app_selector, user_selector};
use prost::Message;

use crate::people::{self, People};

/// Which users are asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spread {
    /// All alike: hardly anybody twice, so that few pages are at hand.
    Even,
    /// The one on place n of a list a hundredth as often as the one on place n/100 (Zipf).
    Skewed,
}

impl Spread {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Spread::Even => "even",
            Spread::Skewed => "skewed",
        }
    }
}

/// One request of a kind, and the user whom it is about.
#[derive(Clone, Debug)]
pub(crate) struct Asked<T> {
    pub(crate) request: T,
    pub(crate) user: u64,
}

/// Requests of one rpc, ready to be sent.
pub(crate) struct Question {
    pub(crate) path: PathAndQuery,
    pub(crate) bodies: Vec<Bytes>,
    /// Whether an answer is the right one, by the place of its request.
    pub(crate) is_right: Box<dyn Fn(usize, Bytes) -> bool + Send + Sync>,
}

impl Question {
    pub(crate) fn of<Q: Message + 'static, A: Message + Default>(
        path: &'static str,
        asked: Vec<Asked<Q>>,
        is_right: impl Fn(u64, A) -> bool + Send + Sync + 'static,
    ) -> Self {
        let bodies = asked.iter().map(|asked| asked.request.encode_to_vec().into()).collect();
        let users: Vec<u64> = asked.iter().map(|asked| asked.user).collect();
        let is_right =
            move |place: usize, body: Bytes| A::decode(body).is_ok_and(|answer| is_right(users[place], answer));
        Self { path: PathAndQuery::from_static(path), bodies, is_right: Box::new(is_right) }
    }

    /// The same requests, to which an empty call answers with so many bytes.
    pub(crate) fn to_nobody(&self, answer_bytes: usize) -> Self {
        let path = PathAndQuery::from_str(&format!("/figures.Empty/{answer_bytes}")).unwrap();
        let is_right = move |_, body: Bytes| body.len() == answer_bytes;
        Self { path, bodies: self.bodies.clone(), is_right: Box::new(is_right) }
    }

    /// Empty calls with empty requests.
    pub(crate) fn empty() -> Self {
        let path = PathAndQuery::from_static("/figures.Empty/0");
        Self { path, bodies: vec![Bytes::new()], is_right: Box::new(|_, body| body.is_empty()) }
    }
}

/// Draws requests.
pub(crate) struct Draw<'a> {
    pub(crate) people: &'a People,
    pub(crate) spread: Spread,
    pub(crate) random: Rng,
}

impl<'a> Draw<'a> {
    pub(crate) fn new(people: &'a People, spread: Spread) -> Self {
        Self { people, spread, random: Rng::with_seed(7) }
    }

    pub(crate) fn user(&mut self) -> u64 {
        let users = self.people.users;
        match self.spread {
            Spread::Even => self.random.u64(0..users),
            Spread::Skewed => {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place among the users")]
                let place = (users as f64).powf(self.random.f64()) as u64 - 1;
                // Those who are asked for most do not stand side by side; a prime spreads them.
                place.min(users - 1) * 7_919_123 % users
            }
        }
    }

    /// Somebody with an account, and the app that it is in.
    fn account(&mut self) -> (u64, u64) {
        loop {
            let user = self.user();
            let apps = self.people.apps_of(user);
            if let Some(app) = self.random.choice(apps) {
                return (user, app);
            }
        }
    }

    /// An account as a crawler of an app names it: mostly its user name, at times its id or an e-mail address.
    pub(crate) fn selector(&mut self) -> (v1::AccountSelector, u64) {
        use v1::IdentifierKind::{Email, ExternalId, Unspecified, UserName};
        let (user, app) = self.account();
        let (kind, value) = match (self.random.u32(0..100), people::external_id(user, app)) {
            (0..20, Some(id)) => (ExternalId, id),
            (20..30, _) => (Email, people::login(user)),
            (30..50, _) => (Unspecified, people::user_name(user, app)),
            _ => (UserName, people::user_name(user, app)),
        };
        let selector = match self.random.u32(0..5) {
            0 => app_selector::Selector::Label(people::app_label(app)),
            _ => app_selector::Selector::AppId(people::app_id(app)),
        };
        let app = Some(v1::AppSelector { selector: Some(selector) });
        let identifier = Some(v1::Identifier { value, kind: kind.into() });
        (v1::AccountSelector { app, identifier }, user)
    }

    pub(crate) fn resolve(&mut self) -> Asked<v1::ResolveAccountRequest> {
        let (account, user) = self.selector();
        Asked { request: v1::ResolveAccountRequest { account: Some(account), ..Default::default() }, user }
    }

    pub(crate) fn batch(&mut self, items: usize) -> Asked<v1::BatchResolveRequest> {
        let mut first = None;
        let items = (0..items).map(|place| {
            let (account, user) = self.selector();
            first.get_or_insert(user);
            v1::BatchResolveItem { correlation_id: place.to_string(), account: Some(account) }
        });
        let request = v1::BatchResolveRequest { items: items.collect(), ..Default::default() };
        Asked { request, user: first.unwrap_or_default() }
    }

    pub(crate) fn expand(&mut self) -> Asked<v1::ExpandUserRequest> {
        let user = self.user();
        let selector = match self.random.bool() {
            true => user_selector::Selector::UserId(people::user_id(user)),
            false => user_selector::Selector::Login(people::login(user)),
        };
        let selector = Some(v1::UserSelector { selector: Some(selector) });
        Asked { request: v1::ExpandUserRequest { user: selector, ..Default::default() }, user }
    }

    /// What somebody searches for.
    pub(crate) fn search(&mut self, shape: SearchShape) -> Asked<v1::SearchRequest> {
        let user = self.user();
        let (first, last) = (people::first_name(user), people::last_name(user));
        let app = self.random.u64(0..self.people.apps());
        let query = match shape {
            SearchShape::FullName => format!("{first} {last}"),
            SearchShape::LastName => last,
            SearchShape::Beginning => format!("{first} {}*", begin(&last, 3)),
            SearchShape::Login => people::login(user),
            SearchShape::Misspelt => format!("{}x{}~", begin(&last, 2), &last[begin(&last, 2).len()..]),
            SearchShape::Filtered => format!("{last} kind:user status:ACTIVE app:{}", people::app_id(app)),
            SearchShape::Common => "example".to_owned(),
            SearchShape::Letter => begin(&last, 1).to_owned(),
            SearchShape::MostlyAll => "status:ACTIVE -kind:group".to_owned(),
        };
        let facet_fields = match self.random.bool() {
            true => vec![v1::FacetField::Kind.into(), v1::FacetField::App.into()],
            false => Vec::new(),
        };
        Asked { request: v1::SearchRequest { query, facet_fields, page_size: 20, ..Default::default() }, user }
    }

    /// What somebody has typed so far.
    pub(crate) fn suggest(&mut self) -> Asked<v1::SuggestRequest> {
        let user = self.user();
        let (first, last) = (people::first_name(user), people::last_name(user));
        let typed = self.random.usize(1..7);
        let prefix = match self.random.u32(0..10) {
            0..4 => begin(&last, typed).to_owned(),
            4..6 => begin(first, typed).to_owned(),
            6..8 => format!("{first} {}", begin(&last, typed)),
            8 => begin(&people::login(user), typed * 3).to_owned(),
            _ => format!("{}x{}", begin(&last, 2), &last[begin(&last, 2).len()..]),
        };
        Asked { request: v1::SuggestRequest { prefix, max_suggestions: 10, ..Default::default() }, user }
    }
}

/// So many letters from the begin.
fn begin(name: &str, letters: usize) -> &str {
    name.char_indices().nth(letters).map_or(name, |(end, _)| &name[..end])
}

/// Shapes of searches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SearchShape {
    FullName,
    LastName,
    Beginning,
    Login,
    Misspelt,
    Filtered,
    Common,
    Letter,
    MostlyAll,
}

impl SearchShape {
    pub(crate) const ALL: [(Self, &'static str); 9] = [
        (Self::FullName, "full name"),
        (Self::LastName, "last name"),
        (Self::Beginning, "beginning of a name"),
        (Self::Login, "login"),
        (Self::Misspelt, "misspelt name"),
        (Self::Filtered, "name with filters"),
        (Self::Common, "a word that everybody has"),
        (Self::Letter, "a letter"),
        (Self::MostlyAll, "filters that most pass"),
    ];
}
