//! App instances. Entry point: [`decode`].

use super::lenient::{Field, Items, lenient_object};
use super::record::{FEATURES_MAX, Unusable, date, kept, required, required_id, required_word};
use crate::core::ids::AppId;
use crate::core::model::{App, AppStatus};

lenient_object! {
    /// The wanted part of an app (facts 4).
    AppBody<'a> {
        id: Field<'a> = "id",
        name: Field<'a> = "name",
        label: Field<'a> = "label",
        status: Field<'a> = "status",
        created: Field<'a> = "created",
        last_updated: Field<'a> = "lastUpdated",
        sign_on_mode: Field<'a> = "signOnMode",
        features: Items<Field<'a>> = "features",
        credentials: AppCredentials<'a> = "credentials" | "credentials\"",
        settings: AppSettings<'a> = "settings",
    }
}

lenient_object! {
    /// How account names are made.
    AppCredentials<'a> {
        scheme: Field<'a> = "scheme",
        user_name: Field<'a> = "userName",
        template: UserNameTemplate<'a> = "userNameTemplate",
    }
}

lenient_object! {
    /// The username template.
    UserNameTemplate<'a> { template: Field<'a> = "template", }
}

lenient_object! {
    /// The settings of interest.
    AppSettings<'a> {
        implicit_assignment: Field<'a> = "implicitAssignment",
        oauth_client: OauthClient<'a> = "oauthClient",
        app: AppSpecific<'a> = "app",
    }
}

lenient_object! {
    /// Settings of an OIDC app.
    OauthClient<'a> { application_type: Field<'a> = "application_type", implicit_assignment: Field<'a> = "implicitAssignment", }
}

lenient_object! {
    /// Settings that belong to the integration.
    AppSpecific<'a> { implicit_assignment: Field<'a> = "implicitAssignment", }
}

pub(super) fn decode(body: &AppBody<'_>) -> Result<App, Unusable> {
    let name = required("name", &body.name)?;
    let settings = &body.settings;
    let implicit =
        [&settings.implicit_assignment, &settings.oauth_client.implicit_assignment, &settings.app.implicit_assignment];
    let features = body.features.0.iter().take(FEATURES_MAX);
    let features = features.filter_map(|feature| kept("features", feature).transpose()).collect::<Result<_, _>>()?;
    Ok(App {
        id: required_id("id", &body.id, AppId::new)?,
        label: kept("label", &body.label)?.unwrap_or_else(|| name.clone()),
        name,
        status: AppStatus::parse(&required_word("status", &body.status)?),
        sign_on_mode: kept("signOnMode", &body.sign_on_mode)?,
        features,
        credential_scheme: kept("credentials.scheme", &body.credentials.scheme)?,
        shared_user_name: kept("credentials.userName", &body.credentials.user_name)?,
        user_name_template: kept("credentials.userNameTemplate.template", &body.credentials.template.template)?,
        oauth_application_type: kept("settings.oauthClient.application_type", &settings.oauth_client.application_type)?,
        implicit_assignment: match implicit.iter().any(|flag| flag.is_true()) {
            true => Some(true),
            false => implicit.iter().any(|flag| flag.is_false()).then_some(false),
        },
        created: date(&body.created),
        last_updated: date(&body.last_updated),
    })
}
