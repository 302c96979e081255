//! The page: one file, with all that it needs in it.

/// The page.
pub(crate) const HTML_PAGE: &[u8] = include_bytes!("page.html");

/// What it may do: nothing but what is in it, and to ask where it came from.
pub(crate) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; \
     style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";
