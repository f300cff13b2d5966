// SPDX-License-Identifier: AGPL-3.0-only

package authz

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestSecretRoundTrip(t *testing.T) {
	secret := []byte("correct horse\x00battery")
	first, err := HashSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	second, err := HashSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	if first == second {
		t.Error("two hashes of one secret are equal: no salt")
	}
	if !strings.HasPrefix(first, "$argon2id$v=19$m=19456,t=2,p=1$") || len(first) > EncodedSecretLenMax || strings.Contains(first, "horse") {
		t.Errorf("hash %q", first)
	}
	for given, want := range map[string]bool{
		string(secret): true, "correct horse\x00batterz": false, "correct horse": false, "": false,
		string(secret) + "\x00": false, strings.Repeat("x", SecretLenMax+1): false,
	} {
		if ok, err := VerifySecret(first, []byte(given)); ok != want || err != nil {
			t.Errorf("VerifySecret(%.30q) = %v, %v", given, ok, err)
		}
	}
	VerifyUnknown(secret)
	VerifyUnknown(nil)
}

// TestVerifySecretVector is a hash of argon2's reference implementation (its test.c: argon2id, t=2, m=65536, p=1,
// "password", "somesalt"), with other costs than ours.
func TestVerifySecretVector(t *testing.T) {
	const encoded = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	if ok, err := VerifySecret(encoded, []byte("password")); !ok || err != nil {
		t.Errorf("VerifySecret = %v, %v", ok, err)
	}
	if ok, err := VerifySecret(encoded, []byte("passwore")); ok || err != nil {
		t.Errorf("VerifySecret of another = %v, %v", ok, err)
	}
}

func TestHashSecretLimits(t *testing.T) {
	for _, n := range []int{0, SecretLenMax + 1, 1 << 20} {
		if h, err := HashSecret(bytes.Repeat([]byte("s"), n)); !errors.Is(err, ErrInvalid) || h != "" {
			t.Errorf("%d bytes: %q, %v", n, h, err)
		}
	}
	for _, n := range []int{1, SecretLenMax} {
		secret := bytes.Repeat([]byte("s"), n)
		h, err := HashSecret(secret)
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := VerifySecret(h, secret); !ok || err != nil {
			t.Errorf("%d bytes: %v, %v", n, ok, err)
		}
	}
}

// TestVerifySecretRefusesBadHashes: a damaged or hostile record neither matches, nor panics, nor allocates what it asks for.
func TestVerifySecretRefusesBadHashes(t *testing.T) {
	const salt, sum = "c29tZXNhbHQ", "CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	for _, bad := range []string{
		"", "$", "$$$$$", "secret", "$argon2i$v=19$m=19456,t=2,p=1$" + salt + "$" + sum, "$argon2id$v=18$m=19456,t=2,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=4294967295,t=2,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=0,t=2,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=19456,t=0,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=19456,t=17,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=19456,t=2,p=0$" + salt + "$" + sum,
		"$argon2id$v=19$m=19456,t=2,p=9$" + salt + "$" + sum,
		"$argon2id$v=19$m=+19456,t=2,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=019456,t=2,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$t=2,m=19456,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=19456,t=2$" + salt + "$" + sum,
		"$argon2id$v=19$m=19456,t=2,p=1$$" + sum,
		"$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$" + sum,
		"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$",
		"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$AAAA",
		"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "=$" + sum,
		"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$" + sum + "$",
		"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$" + strings.Repeat("A", 400),
		"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$" + sum + "\n",
	} {
		if ok, err := VerifySecret(bad, []byte("password")); ok || !errors.Is(err, ErrSecretCodec) {
			t.Errorf("VerifySecret(%q) = %v, %v", bad, ok, err)
		}
	}
}

func FuzzParseHash(f *testing.F) {
	f.Add("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	f.Add("$argon2id$v=19$m=1,t=1,p=1$$")
	f.Fuzz(func(t *testing.T, encoded string) {
		h, err := parseHash(encoded)
		if err != nil {
			if !errors.Is(err, ErrSecretCodec) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if h.memoryKiB == 0 || h.memoryKiB > costMemoryKiBMax || h.passes == 0 || h.passes > costPassesMax || h.lanes == 0 || h.lanes > costLanesMax {
			t.Fatalf("%q asks for %+v", encoded, h)
		}
	})
}

func BenchmarkVerifySecret(b *testing.B) {
	h, err := HashSecret([]byte("secret"))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if ok, err := VerifySecret(h, []byte("secret")); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}

// BenchmarkVerifyUnknown must come out as BenchmarkVerifySecret does.
func BenchmarkVerifyUnknown(b *testing.B) {
	for b.Loop() {
		VerifyUnknown([]byte("secret"))
	}
}
