//! The TLS of listeners and upstreams, made of what a configuration says and of what its files
//! hold.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use log::error;

use crate::config::model::{self, Mode, TlsVersion};
use crate::tls::material::{ListenerMaterial, Material};
use crate::tls::{Agreement, ClientParts, ClientSettings, ServerParts, ServerSettings, TicketKeys};

/// What is spoken over HTTP listeners, the best first.
const HTTP: [&[u8]; 2] = [b"http/1.1", b"http/1.0"];

/// What was made, and a number for what it was made of.
#[derive(Debug)]
pub(crate) struct Made<T> {
    settings: Arc<T>,
    of: u64,
}

/// What a listener decrypts with. What is there is kept where it would be the same, or something
/// is wrong that the reading of files should have refused.
pub(crate) fn of_listener(
    before: Option<Arc<ServerSettings>>,
    settings: &model::Listener,
    material: Option<&Arc<ListenerMaterial>>,
    own_keys: &Arc<TicketKeys>,
) -> Option<Arc<ServerSettings>> {
    let tls = settings.tls.as_deref()?;
    let material = material?;
    let protocols = match settings.mode {
        Mode::Http(_) => HTTP.map(<[u8]>::to_vec).to_vec(),
        Mode::Tcp { .. } | Mode::Tls { .. } => bytes_of(&tls.alpn),
    };
    let agreement = Agreement {
        is_tls13_only: tls.min_version == TlsVersion::V13,
        cipher_suites: tls.cipher_suites.clone(),
        protocols,
    };
    let parts = ServerParts {
        listener: &settings.name,
        agreement: &agreement,
        is_strict: tls.strict_sni,
        material,
    };
    if before.as_ref().is_some_and(|it| it.is_of(&parts)) {
        return before;
    }
    match ServerSettings::renewed(before.as_deref(), &parts, own_keys) {
        Ok(made) => Some(Arc::new(made)),
        Err(why) => {
            error!("listener {}: {why}", settings.name);
            before
        }
    }
}

/// What connections to the backends of an upstream are secured with, likewise. `place` is that of
/// the upstream in its configuration.
pub(crate) fn of_upstream(
    before: Option<Made<ClientSettings>>,
    settings: &model::Upstream,
    material: &Material,
    place: usize,
) -> Option<Made<ClientSettings>> {
    let tls = settings.tls.as_deref()?;
    let files = material.upstreams.get(place)?.as_ref()?;
    let authorities = material.authorities.get(files.authorities);
    let parts = ClientParts {
        authorities: tls
            .verify
            .then(|| authorities.map_or(&[][..], Vec::as_slice)),
        identity: files.identity.as_ref(),
        // Without a word of it, a server speaks HTTP/1.
        protocols: &bytes_of(&tls.alpn),
    };
    let of = number(&parts);
    if before.as_ref().is_some_and(|made| made.of == of) {
        return before;
    }
    match ClientSettings::new(&parts) {
        Ok(settings) => Some(Made {
            settings: Arc::new(settings),
            of,
        }),
        Err(why) => {
            error!("upstream {}: {why}", settings.name);
            before
        }
    }
}

fn bytes_of(protocols: &[String]) -> Vec<Vec<u8>> {
    let bytes = protocols.iter().map(|name| name.as_bytes().to_vec());
    bytes.collect()
}

fn number(parts: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}

impl<T> Made<T> {
    /// What was made.
    pub(crate) fn settings(&self) -> &Arc<T> {
        &self.settings
    }

    /// A number for what it was made of.
    pub(crate) const fn number(&self) -> u64 {
        self.of
    }
}
