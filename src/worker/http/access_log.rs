//! The access log: one line per request or session into a bounded buffer, which whoever runs the
//! worker takes away once per turn and writes where it does not block.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::config::model::{self, LogFormat, LogWhen};
use crate::core::access_log::form::Form;
use crate::core::access_log::{PENDING_BYTES_MAX, Record, TlsRecord, VALUE_BYTES_MAX, Why};
use crate::core::http::head::{Fields, ResponseHead, Version};
use crate::core::http::path::escape_beyond_ascii;
use crate::core::http::trace;
use crate::core::layer::Secured;
use crate::core::rng::Rng;
use crate::core::time::Moment;
use crate::worker::http::received::Request;

/// The severity of all lines (RFC 5424 section 6.2.1).
const INFORMATIONAL: u8 = 6;

/// Longest value kept of a request for its line, in bytes: one more than is written, so that the
/// line shows the cut.
const KEPT_BYTES_MAX: usize = VALUE_BYTES_MAX + 1;

/// Lines that wait to be written.
#[derive(Debug)]
pub(crate) struct AccessLog {
    form: Arc<Form>,
    when: Option<LogWhen>,
    chance: Rng,
    pending: Vec<u8>,
    lost: u64,
}

impl AccessLog {
    pub(crate) fn new(settings: &model::AccessLog) -> Self {
        Self {
            form: Arc::new(match settings.syslog {
                Some(_) => {
                    let priority = 8 * settings.facility + INFORMATIONAL;
                    form(&settings.format).for_syslog(settings.syslog_format, priority)
                }
                None => form(&settings.format),
            }),
            when: settings.when.clone(),
            chance: Rng::new(0),
            pending: Vec::new(),
            lost: 0,
        }
    }

    /// So many more are lost.
    pub(crate) fn lose(&mut self, lines: u64) {
        self.lost += lines;
    }

    /// The lines that wait; the caller clears what it has written.
    pub(crate) fn pending(&mut self) -> &mut Vec<u8> {
        &mut self.pending
    }

    /// Whether lines wait.
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Lines that were lost.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    /// Counts those that wait as lost.
    pub(crate) fn give_up(&mut self) {
        let lines = self.pending.iter().filter(|&&byte| byte == b'\n').count();
        self.pending.clear();
        self.lost += lines as u64;
    }

    /// Keeps the lines of an earlier log.
    pub(crate) fn inherit(&mut self, earlier: Self) {
        self.pending = earlier.pending;
        self.lost = earlier.lost;
    }

    /// The form of lines that begin now.
    pub(super) fn form(&self) -> &Arc<Form> {
        &self.form
    }

    /// Writes a line in the form that it began with: a reload changes no request under way.
    pub(super) fn line(&mut self, record: &Record<'_>, form: Option<&Form>) {
        if let Some(when) = &self.when
            && !holds(when, record, &mut self.chance)
        {
            return;
        }
        if self.pending.len() >= PENDING_BYTES_MAX {
            self.lost += 1;
        } else {
            record.write(form.unwrap_or(&self.form), &mut self.pending);
        }
    }
}

/// Whether a request or session is to have its line. Most have none where this is asked.
fn holds(when: &LogWhen, record: &Record<'_>, chance: &mut Rng) -> bool {
    let is_listed = match record.request.map(|request| request.status) {
        Some(Some(status)) => {
            let mut ranges = when.statuses.iter();
            ranges.any(|(first, last)| (*first..=*last).contains(&status))
        }
        // Whoever asks for errors is to see those without a status.
        Some(None) | None => record.why != Why::Ok && !when.statuses.is_empty(),
    };
    let slow = when.slower_than;
    let took = Duration::from_micros(record.timings.duration_us);
    is_listed
        || slow.is_some_and(|slow| took >= slow)
        || chance.below(PPM) < u64::from(when.sample_ppm)
}

/// All, in millionths.
const PPM: u64 = 1_000_000;

/// The form that the settings name; they were checked when they were read.
fn form(format: &LogFormat) -> Form {
    match format {
        LogFormat::Common => Form::common(),
        LogFormat::Combined => Form::combined(),
        LogFormat::Json => Form::json(),
        LogFormat::Own(format) => Form::parse(format).unwrap_or_else(|_| Form::json()),
    }
}

/// What a line needs of a request after its bytes have gone.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) host: Vec<u8>,
    pub(super) method: Vec<u8>,
    pub(super) path: Vec<u8>,
    pub(super) protocol: &'static str,
    /// None where the head was not read.
    pub(super) form: Option<Arc<Form>>,
    pub(super) request_fields: Vec<Option<Vec<u8>>>,
    pub(super) response_fields: Vec<Option<Vec<u8>>>,
    pub(super) traceparent: Option<Vec<u8>>,
    pub(super) client: Option<IpAddr>,
    pub(super) client_port: Option<u16>,
    pub(super) began: Moment,
    pub(super) head_bytes: u64,
    pub(super) status: Option<u16>,
    pub(super) tls: Option<TlsKept>,
}

impl Kept {
    pub(super) fn new(
        form: &Arc<Form>,
        request: Request<'_>,
        (client, peer): (Option<IpAddr>, Option<SocketAddr>),
        began: Moment,
    ) -> Self {
        let Request {
            head,
            bytes,
            head_bytes,
        } = request;
        // As it came, but bytes beyond ASCII as they go on: JSON holds no others than UTF-8.
        let path = |target: &[u8]| {
            let mut path = Vec::with_capacity(target.len().min(KEPT_BYTES_MAX));
            escape_beyond_ascii(&target[..target.len().min(KEPT_BYTES_MAX)], &mut path);
            path
        };
        let find = |name: &String| joined(&head.fields, name, bytes);
        let peer = peer.filter(|peer| Some(peer.ip().to_canonical()) == client);
        Self {
            host: keep(head.authority(bytes)),
            method: keep(head.method(bytes)),
            path: path(head.target(bytes)),
            protocol: match head.facts.version {
                Version::Http10 => "HTTP/1.0",
                Version::Http11 => "HTTP/1.1",
            },
            request_fields: form.request_fields().iter().map(find).collect(),
            response_fields: Vec::new(),
            traceparent: trace::traceparent(&head.fields, bytes).map(<[u8]>::to_vec),
            form: Some(Arc::clone(form)),
            client,
            client_port: peer.map(|peer| peer.port()),
            began,
            head_bytes: head_bytes as u64,
            status: None,
            tls: None,
        }
    }

    /// Of a request that cannot be read, or not wholly.
    pub(super) fn unread(peer: Option<SocketAddr>, began: Moment) -> Self {
        Self {
            host: Vec::new(),
            method: Vec::new(),
            path: Vec::new(),
            protocol: "HTTP/1.1",
            form: None,
            request_fields: Vec::new(),
            response_fields: Vec::new(),
            traceparent: None,
            client: peer.map(|peer| peer.ip().to_canonical()),
            client_port: peer.map(|peer| peer.port()),
            began,
            head_bytes: 0,
            status: None,
            tls: None,
        }
    }

    /// The header of the response is whole.
    pub(super) fn keep_response_fields(&mut self, head: &ResponseHead, bytes: &[u8]) {
        let find = |name: &String| joined(&head.fields, name, bytes);
        if let Some(form) = &self.form {
            self.response_fields = form.response_fields().iter().map(find).collect();
        }
    }
}

/// The values of all fields of a name, as one (RFC 9110 section 5.3).
fn joined(fields: &Fields, name: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let fields = fields.iter();
    let mut meant = fields.filter(|it| it.name(bytes).eq_ignore_ascii_case(name.as_bytes()));
    let mut all = keep(meant.next()?.value(bytes));
    for field in meant {
        all.extend_from_slice(b", ");
        all.extend_from_slice(&keep(field.value(bytes)));
        all.truncate(KEPT_BYTES_MAX);
    }
    Some(all)
}

fn keep(value: &[u8]) -> Vec<u8> {
    value[..value.len().min(KEPT_BYTES_MAX)].to_vec()
}

/// What a line needs of the client's TLS.
#[derive(Debug)]
pub(super) struct TlsKept {
    sni: Option<Box<str>>,
    /// Without the name.
    rest: TlsRecord<'static>,
}

impl TlsKept {
    pub(super) fn of(secured: Secured<'_>) -> Self {
        let record = TlsRecord::of(secured);
        Self {
            sni: record.sni.map(Box::from),
            rest: TlsRecord {
                sni: None,
                version: record.version,
                cipher: record.cipher,
                is_resumed: record.is_resumed,
                is_verified: record.is_verified,
            },
        }
    }

    pub(super) fn record(&self) -> TlsRecord<'_> {
        TlsRecord {
            sni: self.sni.as_deref(),
            ..self.rest
        }
    }
}
