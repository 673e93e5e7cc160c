//! Which network addresses a request may go to (RFC 8725 §3.10; RFC 6890).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which network addresses a request may go to. It is asked about the address that is connected to, not about the name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressPolicy {
    /// Every address, this machine's and the local network's included.
    AllowPrivate,
    /// Only what the public internet routes. A URL chosen by somebody else reaches nothing inside.
    #[default]
    PublicOnly,
}

impl AddressPolicy {
    /// Whether a connection to this address is allowed.
    #[must_use]
    pub fn permits(self, address: IpAddr) -> bool {
        match self {
            Self::AllowPrivate => true,
            Self::PublicOnly => is_public(address),
        }
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

/// The IANA registry of special-purpose IPv4 addresses, read as a list of what is refused.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let refused = match address.octets() {
        [0 | 10 | 127, ..] => true,               // this network, private, loopback
        [100, second, ..] => second & 0xc0 == 64, // shared between a provider and its customers, 100.64/10
        [169, 254, ..] => true,                   // link-local, where clouds keep their metadata services
        [172, second, ..] => second & 0xf0 == 16, // private
        [192, 0, 0 | 2, _] => true,               // protocol assignments, documentation
        [192, 88, 99, _] => true,                 // 6to4 relays
        [192, 168, ..] => true,                   // private
        [198, 18 | 19, ..] => true,               // benchmarks
        [198, 51, 100, _] => true,                // documentation
        [203, 0, 113, _] => true,                 // documentation
        [first, ..] => first >= 224,              // multicast, reserved, broadcast
    };
    !refused
}

/// Only global unicast, 2000::/3, is public. An address that carries an IPv4 address is worth as much as that one.
fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] => is_public_v4(embedded(high, low)), // IPv4-mapped
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => is_public_v4(embedded(high, low)), // NAT64 (RFC 6052)
        [0x2002, high, low, ..] => is_public_v4(embedded(high, low)),            // 6to4 (RFC 3056)
        [0x2001, second, ..] if second < 0x200 => false,                         // protocol assignments, Teredo
        [0x2001, 0xdb8, ..] => false,                                            // documentation
        [0x3fff, second, ..] if second < 0x1000 => false,                        // documentation (RFC 9637)
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

fn embedded(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rfc8725_3_10_addresses_that_the_internet_does_not_route_are_refused() {
        let refused = "0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.127.255.255 127.0.0.1 127.8.8.8 169.254.169.254 \
            172.16.0.1 172.31.255.255 192.0.0.8 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255 \
            198.51.100.1 203.0.113.9 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 \
            :: ::1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:169.254.169.254 64:ff9b::10.0.0.1 64:ff9b::127.0.0.1 \
            64:ff9b:1::1 100::1 2001::1 2001:2::1 2001:1ff::1 2001:db8::1 2002:7f00:1:: 2002:a9fe:a9fe::1 2002:c0a8:101::1 \
            3fff::1 5f00::1 fc00::1 fd12:3456::1 fe80::1 febf::1 fec0::1 ff02::1";
        for text in refused.split_whitespace() {
            let address: IpAddr = text.parse().expect(text);
            assert!(!AddressPolicy::PublicOnly.permits(address), "{text}");
            assert!(AddressPolicy::AllowPrivate.permits(address), "{text}");
        }
    }

    #[test]
    fn rfc8725_3_10_public_addresses_pass() {
        let public = "1.1.1.1 8.8.8.8 100.63.255.255 100.128.0.1 172.15.0.1 172.32.0.1 192.0.1.1 198.17.0.1 198.20.0.1 \
            223.255.255.255 ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2001:200::1 2001:4860:4860::8888 2002:808:808::1 2606:4700::1111 \
            3fff:1000::1";
        for text in public.split_whitespace() {
            assert!(AddressPolicy::PublicOnly.permits(text.parse().expect(text)), "{text}");
        }
    }

    proptest! {
        /// No spelling in IPv6 makes an IPv4 address better than it is.
        #[test]
        fn rfc8725_3_10_an_ipv4_address_in_disguise_is_judged_as_itself(bits in any::<u32>()) {
            let plain = Ipv4Addr::from(bits);
            let [a, b, c, d] = plain.octets();
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            let disguises = [
                plain.to_ipv6_mapped(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            ];
            for disguise in disguises {
                prop_assert_eq!(is_public_v6(disguise), is_public_v4(plain));
            }
        }
    }
}
