//! Is this the encoding of an Ed25519 public key? (RFC 8032 §5.1.3; RFC 8725 §3.4)
//!
//! The cryptographic library looks at the point when it verifies, and then refuses. A key that can never verify, or
//! one of the few for which everybody can sign, is already refused when it is registered. Public data only: nothing
//! here is constant time.

/// y-coordinates of the points whose order divides 8, as little-endian encodings with the sign bit cleared.
const SMALL_ORDER: [[u64; 4]; 5] = [
    [0, 0, 0, 0],
    [1, 0, 0, 0],
    [0xb027_b2c2_8f95_e826, 0xd098_eff2_f489_c345, 0x3933_c6d3_05ac_dfd5, 0x05fc_536d_8802_b138],
    [0x4fd8_4d3d_706a_17c7, 0x2f67_100d_760b_3cba, 0xc6cc_392c_fa53_202a, 0x7a03_ac92_77fd_c74e],
    [0xffff_ffff_ffff_ffec, u64::MAX, u64::MAX, 0x7fff_ffff_ffff_ffff],
];

/// The prime 2^255 - 19.
const P: Field = Field([0xffff_ffff_ffff_ffed, u64::MAX, u64::MAX, 0x7fff_ffff_ffff_ffff]);
/// (p - 1) / 2.
const HALF: [u64; 4] = [0xffff_ffff_ffff_fff6, u64::MAX, u64::MAX, 0x3fff_ffff_ffff_ffff];
/// -121665 / 121666, the constant of the curve -x² + y² = 1 + d x² y².
const D: Field = Field([0x75eb_4dca_1359_78a3, 0x0070_0a4d_4141_d8ab, 0x8cc7_4079_7779_e898, 0x5203_6cee_2b6f_fe73]);
const ONE: Field = Field([1, 0, 0, 0]);
const MINUS_ONE: Field = Field([0xffff_ffff_ffff_ffec, u64::MAX, u64::MAX, 0x7fff_ffff_ffff_ffff]);

/// Whether `encoding` is the one encoding of a point on the curve that is not of small order.
pub(super) fn is_usable(encoding: &[u8; 32]) -> bool {
    let mut limbs = [0; 4];
    for (limb, bytes) in limbs.iter_mut().zip(encoding.chunks_exact(8)) {
        *limb = bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
    }
    limbs[3] &= u64::MAX >> 1; // the sign of x
    let y = Field(limbs);
    y.is_reduced() && !SMALL_ORDER.contains(&limbs) && y.has_an_x()
}

/// A number modulo p, below 2^256 and not always reduced.
#[derive(Clone, Copy)]
struct Field([u64; 4]);

impl Field {
    /// x² = (y² - 1) / (d y² + 1) has a root exactly when the product of both is a square.
    fn has_an_x(self) -> bool {
        let y2 = self.times(self);
        y2.plus(MINUS_ONE).times(D.times(y2).plus(ONE)).is_square()
    }

    /// Euler's criterion, for numbers other than 0.
    fn is_square(self) -> bool {
        let mut power = ONE;
        for bit in (0..255).rev() {
            power = power.times(power);
            if HALF[bit / 64] >> (bit % 64) & 1 == 1 {
                power = power.times(self);
            }
        }
        power.plus(MINUS_ONE).is_zero()
    }

    fn is_zero(self) -> bool {
        [[0; 4], P.0, [P.0[0].wrapping_mul(2), u64::MAX, u64::MAX, u64::MAX]].contains(&self.0)
    }

    fn is_reduced(self) -> bool {
        self.0.iter().rev().lt(P.0.iter().rev())
    }

    fn plus(self, other: Self) -> Self {
        let mut sum = [0; 4];
        let mut carry = 0;
        for (i, limb) in sum.iter_mut().enumerate() {
            (*limb, carry) = split(u128::from(self.0[i]) + u128::from(other.0[i]) + carry);
        }
        Self(sum).fold(carry)
    }

    fn times(self, other: Self) -> Self {
        let mut wide = [0u64; 8];
        for (i, a) in self.0.iter().enumerate() {
            let mut carry = 0;
            for (j, b) in other.0.iter().enumerate() {
                (wide[i + j], carry) = split(u128::from(*a) * u128::from(*b) + u128::from(wide[i + j]) + carry);
            }
            wide[i + 4] = split(carry).0;
        }
        let mut low = [0; 4];
        let mut carry = 0;
        for (i, limb) in low.iter_mut().enumerate() {
            (*limb, carry) = split(u128::from(wide[i]) + 38 * u128::from(wide[i + 4]) + carry);
        }
        Self(low).fold(carry)
    }

    /// Adds `carry` times 2^256, which is 38 modulo p.
    fn fold(mut self, mut carry: u128) -> Self {
        while carry != 0 {
            carry *= 38;
            for limb in &mut self.0 {
                (*limb, carry) = split(u128::from(*limb) + carry);
            }
        }
        self
    }
}

/// The low half of a number, and the high half as what is carried.
fn split(number: u128) -> (u64, u128) {
    #[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
    let low = number as u64;
    (low, number >> 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(y: u64) -> [u8; 32] {
        let mut encoding = [0; 32];
        encoding[..8].copy_from_slice(&y.to_le_bytes());
        encoding
    }

    #[test]
    fn rfc8032_5_1_3_small_y_coordinates_with_a_point() {
        let on_curve: Vec<u64> = (0..32).filter(|y| is_usable(&encode(*y))).collect();
        assert_eq!(on_curve, ON_CURVE_BELOW_32);
    }

    /// Computed with arbitrary-precision arithmetic from the equation of the curve; 0 and 1 are of small order.
    const ON_CURVE_BELOW_32: [u64; 20] = [3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 19, 21, 23, 24, 25, 26, 27, 28, 29, 30];

    #[test]
    fn rfc8032_5_1_3_an_encoding_that_is_not_reduced_is_refused() {
        for low in 0xed..=0xff {
            let mut encoding = [0xff; 32];
            (encoding[0], encoding[31]) = (low, 0x7f);
            assert!(!is_usable(&encoding), "{low:x}");
        }
    }

    #[test]
    fn rfc8037_3_1_points_of_small_order_are_refused_with_either_sign() {
        for limbs in SMALL_ORDER {
            let mut encoding: Vec<u8> = limbs.iter().flat_map(|limb| limb.to_le_bytes()).collect();
            for sign in [0, 0x80] {
                encoding[31] |= sign;
                assert!(!is_usable(encoding.as_slice().try_into().unwrap()), "{encoding:x?}");
            }
        }
    }
}
