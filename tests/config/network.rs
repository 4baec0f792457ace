//! The way to an org: proxies and roots.

use okta_idmap::config::ProxyConfig;

use super::*;

const ACME: &str = "[orgs.acme]\ndomain = 'acme.okta.com'\napi_token_file = 'token'\n";

#[test]
fn every_org_may_have_a_way_of_its_own() {
    let text = "network.proxy = 'proxy.example:3128'\nnetwork.ca_file = 'roots-two'\n\
                [orgs.acme]\ndomain = 'acme.okta.com'\napi_token_file = 'token'\n\
                [orgs.beta]\ndomain = 'beta.okta.com'\napi_token_file = 'token'\nnetwork.proxy = 'None'\nnetwork.ca_file = ''\n";
    let config = Case::file(text).config();
    let network = |org: &str| config.orgs[org].network.clone();
    assert_eq!(network("acme").proxy, ProxyConfig::By("http://proxy.example:3128".to_owned()));
    assert_eq!(network("acme").root_certificates_pem.unwrap(), [ROOT, ROOT].concat());
    assert_eq!((network("beta").proxy, network("beta").root_certificates_pem), (ProxyConfig::Direct, None));
    let many = Case::file(ACME).and_env(&[("OKTA_IDMAP_NETWORK__CA_FILE", "roots-many")]).config();
    assert!(many.orgs["acme"].network.root_certificates_pem.as_ref().is_some_and(|pem| pem.len() > 200_000));
    let plain = Case::file(ACME).config();
    assert_eq!(plain.orgs["acme"].network.proxy, ProxyConfig::Environment);
}

#[test]
fn what_is_wrong_with_a_file_of_roots_is_said() {
    #[track_caller]
    fn check(file: &'static str, expected: Expect) {
        let errors = Case::file(ACME).and_env(&[("OKTA_IDMAP_NETWORK__CA_FILE", file)]).run().unwrap_err();
        expected.assert_eq(&errors.to_string());
    }
    check(
        "roots-missing",
        expect![
            "OKTA_IDMAP_NETWORK__CA_FILE: orgs.acme.network.ca_file: roots-missing cannot be read: entity not found"
        ],
    );
    check(
        "token-denied",
        expect![
            "OKTA_IDMAP_NETWORK__CA_FILE: orgs.acme.network.ca_file: token-denied cannot be read: permission denied"
        ],
    );
    check(
        "roots-none",
        expect![
            "OKTA_IDMAP_NETWORK__CA_FILE: orgs.acme.network.ca_file: roots-none holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)"
        ],
    );
    check(
        "token-empty",
        expect![
            "OKTA_IDMAP_NETWORK__CA_FILE: orgs.acme.network.ca_file: token-empty holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)"
        ],
    );
    check(
        "roots-wrong",
        expect![
            "OKTA_IDMAP_NETWORK__CA_FILE: orgs.acme.network.ca_file: roots-wrong holds something that is no certificate as number 2"
        ],
    );
    check(
        "roots-cut",
        expect![
            "OKTA_IDMAP_NETWORK__CA_FILE: orgs.acme.network.ca_file: roots-cut is no PEM file from its certificate 1 on"
        ],
    );
    check(
        "roots-large",
        expect![
            "OKTA_IDMAP_NETWORK__CA_FILE: orgs.acme.network.ca_file: roots-large has more than 1048576 bytes: only roots that the system does not have belong into it"
        ],
    );
}
