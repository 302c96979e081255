//! Response heads: read strictly, and mended where that fails and one reading is left.

use std::mem::MaybeUninit;

use httparse::Status;

use super::{
    FIELDS_LIMIT, Fields, HEAD_BYTES_LIMIT, HeadError, HeadLimits, Method, Parsed, Span, Version,
    version, version_error, window,
};
use crate::core::http::body::Framing;
use crate::core::http::known::{Known, KnownSet};
use crate::core::http::mend;
use crate::core::http::oddity::{Oddities, Oddity};

/// The facts of a response that outlive its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseFacts {
    /// 100 to 999.
    pub status: u16,
    /// Its version.
    pub version: Version,
    /// How its body ends.
    pub framing: Framing,
    /// Whether the backend connection may be used again after it.
    pub reusable: bool,
    /// Whether it names a protocol to change to; with status 101 it does.
    pub upgrade: bool,
    /// What was odd about it and taken all the same.
    pub oddities: Oddities,
}

impl ResponseFacts {
    /// Whether another response follows to the same request. 101 is no such: it is the last
    /// word in HTTP.
    #[must_use]
    pub(crate) const fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

impl Default for ResponseFacts {
    fn default() -> Self {
        Self {
            status: 200,
            version: Version::Http11,
            framing: Framing::None,
            reusable: false,
            upgrade: false,
            oddities: Oddities::NONE,
        }
    }
}

/// The head of a response.
#[derive(Debug, Default)]
pub struct ResponseHead {
    /// What was derived from it.
    pub facts: ResponseFacts,
    /// Its fields.
    pub(crate) fields: Fields,
    reason: Span,
    /// The head written anew, where it could not be read as it came; else empty.
    mended: Vec<u8>,
}

impl ResponseHead {
    /// Looks for a response head at the beginning of `bytes`; `request` is the method it answers.
    /// What breaks a rule and has one reading all the same is mended: methods that take bytes
    /// then want [`ResponseHead::readable`].
    ///
    /// # Errors
    /// The first rule found broken. More bytes do not mend it.
    pub fn parse(
        &mut self,
        bytes: &[u8],
        request: Method,
        limits: HeadLimits,
    ) -> Result<Parsed, HeadError> {
        self.mended.clear();
        let found = self.parse_strictly(bytes, request, limits, Oddities::NONE);
        match found {
            Err(error) if error.may_be_mended() => self.parse_mended(bytes, request, limits),
            Ok(_) | Err(_) => found,
        }
    }

    /// The bytes that the head lies in, of those that it was parsed from.
    #[must_use]
    pub fn readable<'a>(&'a self, bytes: &'a [u8]) -> &'a [u8] {
        if self.mended.is_empty() {
            bytes
        } else {
            &self.mended
        }
    }

    /// Kept apart, as hardly any response comes here.
    #[cold]
    fn parse_mended(
        &mut self,
        bytes: &[u8],
        request: Method,
        limits: HeadLimits,
    ) -> Result<Parsed, HeadError> {
        self.fields.clear();
        let (window, is_cut) = window(bytes, limits);
        let mut mended = std::mem::take(&mut self.mended);
        let found = mend::head(window, &mut mended).and_then(|whole| {
            let Some((length, oddities)) = whole else {
                return if is_cut {
                    Err(HeadError::TooLong)
                } else {
                    Ok(Parsed::Partial)
                };
            };
            // What was mended may be longer than what came.
            let limits = HeadLimits {
                head_bytes_max: HEAD_BYTES_LIMIT,
                ..limits
            };
            match self.parse_strictly(&mended, request, limits, oddities)? {
                Parsed::Complete(_) => Ok(Parsed::Complete(length)),
                Parsed::Partial => Err(HeadError::TooLong),
            }
        });
        self.mended = mended;
        if !matches!(found, Ok(Parsed::Complete(_))) {
            self.mended.clear();
        }
        found
    }

    #[inline]
    fn parse_strictly(
        &mut self,
        bytes: &[u8],
        request: Method,
        limits: HeadLimits,
        oddities: Oddities,
    ) -> Result<Parsed, HeadError> {
        self.fields.clear();
        let (window, is_cut) = window(bytes, limits);
        if let Some(b'\r' | b'\n') = window.first() {
            // httparse skips empty lines; only a server has leave to (RFC 9112 section 2.2).
            return Err(HeadError::StartLine);
        }
        let mut space = [const { MaybeUninit::uninit() }; FIELDS_LIMIT];
        let space = &mut space[..limits.fields_max.min(FIELDS_LIMIT)];
        let mut found = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        match config.parse_response_with_uninit_headers(&mut found, window, space) {
            Ok(Status::Complete(length)) => {
                let head = &window[..length];
                self.facts.oddities = oddities;
                self.take(&found, head, request)
                    .inspect_err(|_| self.fields.clear())?;
                Ok(Parsed::Complete(length))
            }
            Ok(Status::Partial) if !is_cut => Ok(Parsed::Partial),
            Ok(Status::Partial) => Err(HeadError::TooLong),
            Err(error) => Err(response_error(error, window)),
        }
    }

    fn take(
        &mut self,
        found: &httparse::Response<'_, '_>,
        head: &[u8],
        request: Method,
    ) -> Result<(), HeadError> {
        let status = found.code.unwrap_or_default();
        match status {
            100..=599 => {}
            // To its receiver it is an error of the server (RFC 9110 section 15).
            600..=999 => self.facts.oddities.add(Oddity::StatusCode),
            _ => return Err(HeadError::Status),
        }
        self.fields.fill(found.headers, head)?;
        self.reason = reason_span(found.headers, head);
        let version = version(found.version);
        let (framing, is_sound) = self.read_framing(status, version, request, head)?;
        self.facts = ResponseFacts {
            status,
            version,
            framing,
            reusable: is_sound
                && framing != Framing::UntilClose
                && self.fields.keeps_alive(version),
            upgrade: self.fields.upgrades(head, version),
            oddities: self.facts.oddities,
        };
        Ok(())
    }

    /// RFC 9112 section 6.3; and whether nothing speaks against the connection being in step.
    fn read_framing(
        &mut self,
        status: u16,
        version: Version,
        request: Method,
        head: &[u8],
    ) -> Result<(Framing, bool), HeadError> {
        if status < 200 || status == 204 {
            let has_framing = self.fields.has(Known::ContentLength)
                && self.fields.first(Known::ContentLength, head) != Some(b"0")
                || self.fields.has(Known::TransferEncoding);
            self.fields.drop_known(KnownSet::FRAMING);
            return Ok((Framing::None, !has_framing));
        }
        let (chunked, is_plain) = self.read_coding(version, head)?;
        if chunked {
            let has_length = self.fields.has(Known::ContentLength);
            if has_length {
                self.facts.oddities.add(Oddity::LengthAndCoding);
            }
            let is_sound = is_plain && !has_length;
            self.fields
                .drop_known(KnownSet::of(&[Known::ContentLength]));
            if request == Method::Head || status == 304 {
                self.fields.drop_known(KnownSet::FRAMING);
                return Ok((Framing::None, is_sound));
            }
            return Ok((Framing::Chunked, is_sound));
        }
        let length = self.fields.content_length(head)?;
        if request == Method::Head || status == 304 {
            return Ok((Framing::None, true));
        }
        Ok((length.map_or(Framing::UntilClose, Framing::Length), true))
    }

    /// Whether the body is chunked, and whether that is said in the plain way.
    fn read_coding(&mut self, version: Version, head: &[u8]) -> Result<(bool, bool), HeadError> {
        match self.fields.is_chunked(head, version) {
            Ok(chunked) => Ok((chunked, true)),
            Err(error @ (HeadError::CodingInvalid | HeadError::CodingUnknown)) => {
                Ok((self.read_odd_coding(head, error)?, false))
            }
            Err(error) => Err(error),
        }
    }

    /// What is taken here ends at the same place for everybody: `chunked` must not be applied
    /// twice (RFC 9112 section 6.1), and `identity` does nothing (RFC 2616 section 3.6). Beside a
    /// length, or another oddity, that is not sure any more.
    #[cold]
    fn read_odd_coding(&mut self, head: &[u8], refused: HeadError) -> Result<bool, HeadError> {
        let (mut identities, mut chunked) = (0, 0);
        for coding in self.fields.members(Known::TransferEncoding, head) {
            if coding.eq_ignore_ascii_case(b"chunked") {
                chunked += 1;
            } else if coding.eq_ignore_ascii_case(b"identity") && chunked == 0 {
                identities += 1;
            } else {
                return Err(refused);
            }
        }
        if self.fields.has(Known::ContentLength) {
            return Err(HeadError::LengthAndCoding);
        }
        if !self.facts.oddities.is_empty() || (chunked > 1 && identities > 0) {
            return Err(refused);
        }
        self.facts.oddities.add(if chunked > 1 {
            Oddity::RepeatedChunked
        } else {
            Oddity::IdentityCoding
        });
        Ok(chunked > 0)
    }

    /// The reason phrase, as written.
    #[must_use]
    pub(crate) fn reason<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        self.reason.of(bytes)
    }
}

/// What follows `HTTP/1.1 200 ` in the first line. httparse gives it only if it is ASCII.
fn reason_span(found: &[httparse::Header<'_>], head: &[u8]) -> Span {
    let line_end = found.first().map_or(head.len() - 4, |first| {
        Span::locate(first.name.as_bytes(), head).start() - 2
    });
    let start = "HTTP/1.1 200 ".len().min(line_end);
    Span::new(start, line_end)
}

fn response_error(error: httparse::Error, window: &[u8]) -> HeadError {
    match error {
        httparse::Error::HeaderName => HeadError::FieldName,
        httparse::Error::HeaderValue => HeadError::FieldValue,
        httparse::Error::NewLine => HeadError::LineEnd,
        httparse::Error::TooManyHeaders => HeadError::TooManyFields,
        httparse::Error::Status => HeadError::Status,
        httparse::Error::Token => HeadError::StartLine,
        httparse::Error::Version => version_error(window),
    }
}
