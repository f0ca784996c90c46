//! Origins to which a job may send HTTP requests: scheme, host and port (as in RFC 6454), and the addresses
//! to which a name may resolve.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

const HOST_BYTES_MAX: usize = 253;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// Like `https://stock.example.com` or `http://127.0.0.1:7401`. The host is in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    scheme: Scheme,
    host: String,
    port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    #[error("it begins with neither http:// nor https://")]
    Scheme,
    #[error("it holds more than scheme, host and port")]
    More,
    #[error("its host is not valid")]
    Host,
    #[error("its methods are not among GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS, with commas between")]
    Method,
    #[error("its port is not a number from 1 to 65535")]
    Port,
}

impl Origin {
    /// Builds an origin from the parts of a request. Without a port the scheme's default port is used.
    pub fn new(scheme: Scheme, host: &str, port: Option<u16>) -> Result<Origin, OriginError> {
        let host = host.to_ascii_lowercase();
        if !is_name(&host) && address(&host).is_none() {
            return Err(OriginError::Host);
        }
        Ok(Origin { scheme, host, port: port.unwrap_or(scheme.port()) })
    }
}

/// The methods that are allowed to an origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Methods {
    Any,
    /// In upper case.
    Only(BTreeSet<String>),
}

impl Methods {
    pub fn allow(&self, method: &str) -> bool {
        match self {
            Methods::Any => true,
            Methods::Only(methods) => methods.contains(method),
        }
    }
}

impl fmt::Display for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Methods::Any => Ok(()),
            Methods::Only(methods) => {
                f.write_str(&methods.iter().map(String::as_str).collect::<Vec<_>>().join(","))
            }
        }
    }
}

/// Parses one grant: `https://stock.example.com`, or `GET,HEAD https://stock.example.com`.
pub fn reach(text: &str) -> Result<(Origin, Methods), OriginError> {
    let Some((methods, origin)) = text.split_once(' ') else {
        return Ok((text.parse()?, Methods::Any));
    };
    if !methods.split(',').all(|method| METHODS.contains(&method)) {
        return Err(OriginError::Method);
    }
    let methods = methods.split(',').map(str::to_owned).collect();
    Ok((origin.trim_start().parse()?, Methods::Only(methods)))
}

/// CONNECT and TRACE cannot be granted.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Origin, OriginError> {
        let (scheme, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (Scheme::Https, rest),
            (_, Some(rest)) => (Scheme::Http, rest),
            _ => return Err(OriginError::Scheme),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#', '@']) {
            return Err(OriginError::More);
        }
        // An IPv6 address is in brackets, because it contains colons.
        let after_address = rest.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match rest[after_address..].split_once(':') {
            Some((between, port)) => (&rest[..after_address + between.len()], Some(port)),
            None => (rest, None),
        };
        let digits = |port: &str| port.bytes().all(|b| b.is_ascii_digit());
        let port = match port {
            Some(port) if digits(port) => Some(port.parse::<u16>().map_err(|_| OriginError::Port)?),
            Some(_) => return Err(OriginError::Port),
            None => None,
        };
        if port == Some(0) {
            return Err(OriginError::Port);
        }
        Origin::new(scheme, host, port)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.scheme == Scheme::Http { "http" } else { "https" };
        write!(f, "{word}://{}", self.host)?;
        if self.port != self.scheme.port() {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}

/// A host name: labels of letters, digits, `-` and `_`, separated by dots.
fn is_name(host: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let numeric = host.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    // A host that ends in a number has to be an address, so that no other notation of an address passes the
    // grant.
    host.len() <= HOST_BYTES_MAX && host.split('.').all(label) && !numeric
}

/// The address that a host denotes, if it is one. IPv6 addresses are in brackets.
fn address(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

/// Whether a granted name may resolve to this address. The name's owner can point it anywhere. So it may
/// reach public addresses, and private ones if the job has the grant. It may never reach this machine or
/// link-local addresses (where clouds serve credentials). `localhost` is this machine.
pub fn name_may_mean(name: &str, address: IpAddr, private: bool) -> bool {
    let address = address.to_canonical();
    if name.eq_ignore_ascii_case("localhost") {
        return address.is_loopback();
    }
    match address {
        IpAddr::V4(v4) => (is_public_v4(v4) && !is_private_v4(v4)) || (private && is_private_v4(v4)),
        IpAddr::V6(v6) => is_public_v6(v6) || (private && v6.is_unique_local()),
    }
}

/// Private (RFC 1918) and carrier-grade NAT (RFC 6598) addresses.
fn is_private_v4(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    address.is_private() || (first == 100 && second & 0b1100_0000 == 64)
}

/// Not in one of the special blocks of RFC 6890. Private addresses are handled before.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = a == 0
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || (a, b, c) == (192, 0, 0)
        || (a, b, c) == (192, 88, 99)
        || (a == 198 && b & 0xfe == 18)
        || a >= 224;
    !special
}

/// Global unicast (2000::/3), without ranges that embed an IPv4 address (6to4, Teredo) and ranges for
/// documentation.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    let documents = (first == 0x2001 && second == 0x0db8) || (first == 0x3fff && second < 0x1000);
    first & 0xe000 == 0x2000 && first != 0x2002 && !(first == 0x2001 && second < 0x0200) && !documents
}
