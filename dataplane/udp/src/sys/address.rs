//! Socket addresses between Rust and the kernel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use libc::{sockaddr_in, sockaddr_in6, sockaddr_storage, socklen_t};

/// Writes `address` as a socket of the given family needs it; its size, or `None` where the family cannot reach it.
pub(super) fn write(address: SocketAddr, is_v6: bool, to: &mut sockaddr_storage) -> Option<socklen_t> {
    match address {
        SocketAddr::V4(v4) if !is_v6 => {
            let name = sockaddr_in {
                sin_family: family(libc::AF_INET),
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: a sockaddr_storage has the size and alignment of every socket address.
            unsafe { (&raw mut *to).cast::<sockaddr_in>().write(name) };
            socklen_t::try_from(size_of::<sockaddr_in>()).ok()
        }
        SocketAddr::V4(v4) => {
            write(SocketAddr::V6(SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0)), is_v6, to)
        }
        SocketAddr::V6(v6) if is_v6 => {
            let name = sockaddr_in6 {
                sin6_family: family(libc::AF_INET6),
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above.
            unsafe { (&raw mut *to).cast::<sockaddr_in6>().write(name) };
            socklen_t::try_from(size_of::<sockaddr_in6>()).ok()
        }
        SocketAddr::V6(_) => None,
    }
}

/// Reads the address that the kernel wrote; an IPv4 address in IPv6 form becomes the IPv4 address.
pub(super) fn read(from: &sockaddr_storage) -> Option<SocketAddr> {
    if from.ss_family == family(libc::AF_INET) {
        // SAFETY: the family says that a sockaddr_in was written here.
        let name = unsafe { (&raw const *from).cast::<sockaddr_in>().read() };
        let ip = Ipv4Addr::from(name.sin_addr.s_addr.to_ne_bytes());
        return Some(SocketAddr::new(IpAddr::V4(ip), u16::from_be(name.sin_port)));
    }
    if from.ss_family == family(libc::AF_INET6) {
        // SAFETY: the family says that a sockaddr_in6 was written here.
        let name = unsafe { (&raw const *from).cast::<sockaddr_in6>().read() };
        let (ip, port) = (Ipv6Addr::from(name.sin6_addr.s6_addr), u16::from_be(name.sin6_port));
        return Some(match ip.to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(IpAddr::V4(v4), port),
            None => SocketAddrV6::new(ip, port, 0, name.sin6_scope_id).into(),
        });
    }
    None
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "families are small numbers")]
const fn family(number: libc::c_int) -> libc::sa_family_t {
    number as libc::sa_family_t
}

/// An address of zeros.
pub(super) fn empty() -> sockaddr_storage {
    // SAFETY: all zero bytes are a valid sockaddr_storage.
    unsafe { std::mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(address: &str, is_v6: bool) -> Option<SocketAddr> {
        let mut storage = empty();
        write(address.parse().ok()?, is_v6, &mut storage)?;
        read(&storage)
    }

    #[test]
    fn addresses_survive_the_kernel_s_form() {
        for (address, is_v6) in [
            ("192.0.2.7:40000", false),
            ("192.0.2.7:40000", true),
            ("[2001:db8::1]:443", true),
            ("[fe80::1%3]:9", true),
        ] {
            assert_eq!(through(address, is_v6), address.parse().ok(), "{address}");
        }
        assert_eq!(through("[2001:db8::1]:443", false), None, "an IPv4 socket has no way to IPv6");
        assert_eq!(read(&empty()), None);
    }
}
