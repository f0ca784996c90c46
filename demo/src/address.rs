//! Wallet addresses that look real and are always the same for a user.

use crate::dice::roll;

/// The chains of a complete wallet.
pub const CHAINS: [&str; 3] = ["KAVA", "DST", "BSC"];

const BECH32: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const HEX: &[u8; 16] = b"0123456789abcdef";
/// Separates addresses from all other uses of the dice.
const ADDRESS_SEED: u64 = 0xadd7_e550;

/// Right in alphabet and length, but without a valid checksum, so that no payment can reach one by mistake.
pub fn address(user_id: i64, chain: &str) -> String {
    match chain {
        "KAVA" => format!("kava1{}", text(user_id, 1, BECH32, 38)),
        "DST" => format!("dst1{}", text(user_id, 2, BECH32, 38)),
        _ => format!("0x{}", text(user_id, 3, HEX, 40)),
    }
}

fn text(user_id: i64, chain: u64, alphabet: &[u8], length: u64) -> String {
    (0..length)
        .map(|place| {
            let roll = roll(ADDRESS_SEED, &[user_id.cast_unsigned(), chain, place]);
            // The remainder is below the alphabet's length, so the index is in range.
            char::from(alphabet[(roll % alphabet.len() as u64) as usize])
        })
        .collect()
}
