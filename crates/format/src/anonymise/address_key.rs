//! Replacements of addresses by a random key.

use std::{
    hash::{BuildHasher, RandomState},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// A key that permutes the addresses of each IP version: different addresses stay different, equal ones equal. It is a
/// Feistel network whose rounds are SipHash under a random key.
#[derive(Default)]
pub(super) struct AddressKey(RandomState);

const ROUNDS: u32 = 8;

impl AddressKey {
    /// Another address of the same version. Loopback, multicast, broadcast and unspecified addresses identify nobody and
    /// stay; nothing else becomes one of them.
    pub fn address(&self, address: IpAddr) -> IpAddr {
        let mut other = address;
        while !is_special(address) {
            other = match other {
                IpAddr::V4(other) => {
                    let bits = self.permuted(u128::from(u32::from(other)), 16);
                    IpAddr::V4(Ipv4Addr::from(bits as u32))
                }
                IpAddr::V6(other) => IpAddr::V6(Ipv6Addr::from(self.permuted(u128::from(other), 64))),
            };
            if !is_special(other) {
                break;
            }
        }
        other
    }

    fn permuted(&self, value: u128, half: u32) -> u128 {
        let mask = (1 << half) - 1;
        let (mut left, mut right) = (value >> half, value & mask);
        for round in 0..ROUNDS {
            let change = u128::from(self.0.hash_one((round, half, right))) & mask;
            (left, right) = (right, left ^ change);
        }
        left << half | right
    }

    /// A MAC address that is administered locally; no address stays none.
    pub fn mac(&self, mac: &str) -> String {
        if mac.is_empty() {
            return String::new();
        }
        let [_, a, b, c, d, e, ..] = self.0.hash_one(("mac", mac)).to_le_bytes();
        format!("02:{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}")
    }

    /// A machine's mark; none stays none.
    pub fn mark(&self, mark: &str) -> String {
        if mark.is_empty() { String::new() } else { format!("{:016x}", self.0.hash_one(("mark", mark))) }
    }

    /// What tells packets of a flow apart; 0 stands for none.
    pub fn witness(&self, witness: u64) -> u64 {
        if witness == 0 { 0 } else { self.0.hash_one(("witness", witness)).max(1) }
    }
}

fn is_special(address: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    address.is_loopback() || address.is_multicast() || address.is_unspecified() || is_broadcast
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn different_addresses_stay_different() {
        let key = AddressKey::default();
        let all: HashSet<_> =
            (0..100_000u32).map(|n| key.address(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 | n)))).collect();
        assert_eq!(all.len(), 100_000);
        assert!(all.iter().all(|address| address.is_ipv4() && !is_special(*address)));
    }

    #[test]
    fn special_addresses_stay_and_another_key_gives_others() {
        let key = AddressKey::default();
        for special in ["127.0.0.1", "::1", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255"] {
            let special = special.parse().unwrap();
            assert_eq!(key.address(special), special);
        }
        let address = "fe80::5054:ff:fe12:3456".parse().unwrap();
        assert_eq!(key.address(address), key.address(address));
        assert_ne!(key.address(address), AddressKey::default().address(address));
    }

    proptest! {
        #[test]
        fn no_address_stays_or_becomes_special(address in any::<IpAddr>()) {
            let other = AddressKey::default().address(address);
            prop_assert_eq!(address.is_ipv4(), other.is_ipv4());
            prop_assert_eq!(is_special(address), is_special(other));
        }
    }
}
