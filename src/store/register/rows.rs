//! What stands at a place of the register: who has a name, and rows of people, as bytes.
//!
//! Entry points: [`Holders`], [`Person`], [`put_account`] and [`account`].
//!
//! Texts that repeat one of the user's names, as accounts mostly do, and words that Okta uses again and again are one byte.
//! Numbers are little-endian, a byte before whatever may be missing says whether it is there.

use crate::core::ids::{AppId, GroupId, Timestamp, UserId};
use crate::core::model::{AppUser, AppUserStatus, AssignmentScope, User, UserStatus};

/// Holders of a name that are told one by one.
const HOLDERS_MAX: usize = 3;

/// Who has a name in an app, or as a login or e-mail of Okta.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Holders {
    /// Surrogates, in their order.
    pub(in crate::store) users: Vec<u32>,
    /// Whether somebody had it before.
    pub(in crate::store) has_past: bool,
    /// Whether there are more.
    pub(in crate::store) has_more: bool,
}

impl Holders {
    /// One more; in the order of the surrogates.
    pub(in crate::store) fn add(&mut self, user: u32) {
        match self.users.last() {
            Some(last) if *last == user => {}
            _ if self.users.len() == HOLDERS_MAX => self.has_more = true,
            _ => self.users.push(user),
        }
    }

    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        bytes.push(u8::from(self.has_past) | u8::from(self.has_more) << 1);
        self.users.iter().for_each(|user| bytes.extend_from_slice(&user.to_le_bytes()));
    }
}

/// [`Holders`] as they stand in a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoredHolders<'a> {
    users: &'a [[u8; 4]],
    pub(super) has_past: bool,
    pub(super) has_more: bool,
}

impl<'a> StoredHolders<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (flags, rest) = bytes.split_first()?;
        let (users, []) = rest.as_chunks::<4>() else { return None };
        if *flags > 3 || users.len() > HOLDERS_MAX {
            return None;
        }
        Some(Self { users, has_past: flags & 1 == 1, has_more: flags & 2 == 2 })
    }

    /// Surrogates, in their order.
    pub(super) fn users(self) -> impl Iterator<Item = u32> {
        self.users.iter().map(|user| u32::from_le_bytes(*user))
    }
}

/// A user whose surrogate is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Person {
    pub(in crate::store) id: UserId,
    /// The row; `None` where no list has shown the user.
    pub(in crate::store) user: Option<User>,
}

impl Person {
    /// Texts that accounts repeat.
    fn names(&self) -> [Option<&str>; 2] {
        let user = self.user.as_ref();
        [user.and_then(|user| user.login.as_deref()), user.and_then(|user| user.email.as_deref())]
    }

    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        let mut out = Out { bytes, known: [None; 2] };
        out.text(Some(self.id.as_str()));
        out.bytes.push(u8::from(self.user.is_some()));
        let Some(user) = &self.user else { return };
        out.text(Some(user.status.as_str()));
        out.text(user.login.as_deref());
        out.known[0] = user.login.as_deref();
        let texts = [&user.email, &user.second_email, &user.first_name, &user.last_name, &user.display_name];
        texts.into_iter().for_each(|text| out.text(text.as_deref()));
        [user.created, user.last_updated, user.status_changed].into_iter().for_each(|time| out.time(time));
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut input = In { rest: bytes, known: [None; 2] };
        let id = UserId::new(input.some_text()?).ok()?;
        if input.byte()? == 0 {
            return input.rest.is_empty().then_some(Self { id, user: None });
        }
        let status = UserStatus::parse(input.some_text()?);
        let login = input.text()?;
        input.known[0] = login;
        let mut text = || input.text().map(|text| text.map(Box::<str>::from));
        let (email, second_email) = (text()?, text()?);
        let (first_name, last_name, display_name) = (text()?, text()?, text()?);
        let (created, last_updated, status_changed) = (input.time()?, input.time()?, input.time()?);
        let login = login.map(Box::from);
        let user = User {
            id: id.clone(),
            status,
            login,
            email,
            second_email,
            first_name,
            last_name,
            display_name,
            created,
            last_updated,
            status_changed,
        };
        input.rest.is_empty().then_some(Self { id, user: Some(user) })
    }
}

/// Writes the row of an account of a person.
pub(super) fn put_account(bytes: &mut Vec<u8>, account: &AppUser, person: &Person) {
    let mut out = Out { bytes, known: person.names() };
    let names = [&account.user_name, &account.external_id, &account.email];
    names.into_iter().for_each(|text| out.text(text.as_deref()));
    out.text(Some(account.status.as_str()));
    out.text(Some(account.scope.as_str()));
    out.text(account.sync_state.as_deref());
    out.text(account.via_group.as_ref().map(GroupId::as_str));
    [account.created, account.last_updated, account.status_changed].into_iter().for_each(|time| out.time(time));
}

/// Reads it back.
pub(super) fn account(bytes: &[u8], app: AppId, person: &Person) -> Option<AppUser> {
    let mut input = In { rest: bytes, known: person.names() };
    let mut text = || input.text().map(|text| text.map(Box::<str>::from));
    let (user_name, external_id, email) = (text()?, text()?, text()?);
    let status = AppUserStatus::parse(input.some_text()?);
    let scope = AssignmentScope::parse(input.some_text()?);
    let sync_state = input.text()?.map(Box::from);
    let via_group = match input.text()? {
        Some(id) => Some(GroupId::new(id).ok()?),
        None => None,
    };
    let (created, last_updated, status_changed) = (input.time()?, input.time()?, input.time()?);
    input.rest.is_empty().then(|| AppUser {
        app,
        user: person.id.clone(),
        user_name,
        external_id,
        email,
        status,
        scope,
        sync_state,
        via_group,
        created,
        last_updated,
        status_changed,
    })
}

/// First byte of a text: there is none, it is here, or it is the n-th of those that are known, or of [`WORDS`].
const NONE: u8 = 0;
const HERE: u8 = 1;
const KNOWN: u8 = 2;
const WORD: u8 = 16;

/// States of users and accounts, ways of assignment, states of provisioning. What stands where is part of the file's format.
const WORDS: [&str; 24] = [
    "ACTIVE",
    "PROVISIONED",
    "STAGED",
    "RECOVERY",
    "PASSWORD_EXPIRED",
    "LOCKED_OUT",
    "SUSPENDED",
    "DEPROVISIONED",
    "PENDING",
    "INACTIVE",
    "IMPORTED",
    "MATCHED",
    "IMPLICIT",
    "APPROVED",
    "REVOKED",
    "UNASSIGNED",
    "USER",
    "GROUP",
    "NONE",
    "DISABLED",
    "OUT_OF_SYNC",
    "SYNCING",
    "SYNCHRONIZED",
    "ERROR",
];

struct Out<'a> {
    bytes: &'a mut Vec<u8>,
    known: [Option<&'a str>; 2],
}

impl Out<'_> {
    fn text(&mut self, text: Option<&str>) {
        let Some(text) = text else { return self.bytes.push(NONE) };
        let known = self.known.iter().zip(KNOWN..).find(|(known, _)| **known == Some(text)).map(|(_, code)| code);
        let word = || WORDS.iter().zip(WORD..).find(|(word, _)| **word == text).map(|(_, code)| code);
        if let Some(code) = known.or_else(word) {
            return self.bytes.push(code);
        }
        self.bytes.push(HERE);
        // What is longer does not fit into a page: it is not read.
        let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn time(&mut self, time: Option<Timestamp>) {
        self.bytes.push(u8::from(time.is_some()));
        if let Some(time) = time {
            self.bytes.extend_from_slice(&time.as_millis().to_le_bytes());
        }
    }
}

struct In<'a> {
    rest: &'a [u8],
    known: [Option<&'a str>; 2],
}

impl<'a> In<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    fn text(&mut self) -> Option<Option<&'a str>> {
        match self.byte()? {
            NONE => Some(None),
            HERE => {
                let (length, rest) = self.rest.split_first_chunk()?;
                let (text, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
                self.rest = rest;
                Some(Some(str::from_utf8(text).ok()?))
            }
            word @ WORD.. => Some(Some(WORDS.get(usize::from(word - WORD))?)),
            known => Some(Some((*self.known.get(usize::from(known - KNOWN))?)?)),
        }
    }

    fn some_text(&mut self) -> Option<&'a str> {
        self.text()?
    }

    fn time(&mut self) -> Option<Option<Timestamp>> {
        if self.byte()? == 0 {
            return Some(None);
        }
        let (millis, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(Some(Timestamp::from_millis(i64::from_le_bytes(*millis))))
    }
}
