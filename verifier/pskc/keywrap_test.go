package pskc

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"testing"
)

// The vectors of RFC 3394 §4 and RFC 5649 §6 (the one above eight octets).
func TestKeyWrapVectors(t *testing.T) {
	const kek = "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F"
	const data = "00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F"
	for _, v := range []struct {
		name, kek, plain, wrapped string
		open                      func(cipher.Block, []byte) ([]byte, error)
	}{
		{"3394 4.1", kek[:32], data[:32], "1FA68B0A8112B447AEF34BD8FB5A7B829D3E862371D2CFE5", unwrap},
		{"3394 4.2", kek[:48], data[:32], "96778B25AE6CA435F92B5B97C050AED2468AB8A17AD84E5D", unwrap},
		{"3394 4.3", kek, data[:32], "64E8C3F9CE0F5BA263E9777905818A2A93C8191E7D6E8AE7", unwrap},
		{"3394 4.4", kek[:48], data[:48], "031D33264E15D33268F24EC260743EDCE1C6C7DDEE725A936BA814915C6762D2", unwrap},
		{"3394 4.5", kek, data[:48], "A8F9BC1612C68B3FF6E6F4FBE30E71E4769C8B80A32CB8958CD5D17D6B254DA1", unwrap},
		{"3394 4.6", kek, data, "28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21", unwrap},
		{
			"5649 6", "5840DF6E29B02AF1AB493B705BF16EA1AE8338F4DCC176A8", "C37B7E6492584340BED12207808941155068F738",
			"138BDEAA9B8FA7FC61F97742E72248EE5AE6AE5360D1AE6A5F54F373FA543B6A", unwrapPadded,
		},
	} {
		block, err := aes.NewCipher(unhex(t, v.kek))
		if err != nil {
			t.Fatal(err)
		}
		wrapped := unhex(t, v.wrapped)
		if got, err := v.open(block, wrapped); err != nil || !bytes.Equal(got, unhex(t, v.plain)) {
			t.Errorf("%s: %X, %v", v.name, got, err)
		}
		for i := range wrapped {
			changed := bytes.Clone(wrapped)
			changed[i] ^= 1
			if _, err := v.open(block, changed); err == nil {
				t.Errorf("%s: octet %d was changed, and nothing was noticed", v.name, i)
			}
		}
		for n := range wrapped {
			if _, err := v.open(block, wrapped[:n]); err == nil {
				t.Errorf("%s: cut to %d octets, and nothing was noticed", v.name, n)
			}
		}
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
