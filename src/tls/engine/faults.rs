//! What errors of the library come to.

use rustls::{CertificateError, Error, PeerMisbehaved};

use crate::core::client_hello::Alert;
use crate::core::fault::Fault;

/// The alert that says what was wrong, where there is one for it.
pub(super) const fn alert_of(error: &Error) -> Option<Alert> {
    Some(match error {
        Error::InvalidMessage(_) => Alert::DECODE_ERROR,
        Error::PeerSentOversizedRecord => Alert::RECORD_OVERFLOW,
        Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::PeerMisbehaved(PeerMisbehaved::KeyEpochWithPendingFragment) => {
            Alert::UNEXPECTED_MESSAGE
        }
        Error::PeerMisbehaved(_) => Alert::ILLEGAL_PARAMETER,
        Error::PeerIncompatible(_) => Alert::HANDSHAKE_FAILURE,
        _ => return None,
    })
}

pub(super) fn fault_of(error: &Error) -> Fault {
    match error {
        Error::InvalidMessage(_) | Error::PeerSentOversizedRecord => Fault::Malformed,
        Error::PeerIncompatible(_) => Fault::NothingInCommon,
        Error::NoApplicationProtocol => Fault::NoProtocol,
        Error::NoCertificatesPresented => Fault::NoCertificate,
        Error::AlertReceived(alert) => Fault::Alert(u8::from(*alert)),
        Error::InvalidCertificate(error) => certificate_fault(error),
        Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::PeerMisbehaved(_)
        | Error::DecryptError => Fault::Misbehaved,
        _ => Fault::Internal,
    }
}

const fn certificate_fault(error: &CertificateError) -> Fault {
    use CertificateError as E;
    match error {
        E::UnknownIssuer => Fault::UnknownIssuer,
        E::Expired | E::ExpiredContext { .. } | E::NotValidYet | E::NotValidYetContext { .. } => {
            Fault::Expired
        }
        E::Revoked
        | E::UnknownRevocationStatus
        | E::ExpiredRevocationList
        | E::ExpiredRevocationListContext { .. } => Fault::Revoked,
        E::NotValidForName | E::NotValidForNameContext { .. } => Fault::WrongName,
        _ => Fault::BadCertificate,
    }
}
