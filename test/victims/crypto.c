/*
 * libcrypto's assembly: hashes, ciphers, big numbers and curves in turn.
 *	crypto SECONDS
 *	crypto SECONDS sha2	the SHA-2 family alone, whose AVX2 rows find the CFA below the stack pointer
 */
#include "victim.h"

#include <openssl/evp.h>

void digest_round(const EVP_MD *md, unsigned char *buf);
void cipher_round(const EVP_CIPHER *cipher, unsigned char *buf);
void sign_round(EVP_PKEY *key);

enum { BYTES = 16384 };

KEEP void digest_round(const EVP_MD *md, unsigned char *buf)
{
	unsigned char out[EVP_MAX_MD_SIZE];

	if (md)
		EVP_Digest(buf, BYTES, out, NULL, md, NULL);
	STAY();
}

KEEP void cipher_round(const EVP_CIPHER *cipher, unsigned char *buf)
{
	EVP_CIPHER_CTX *ctx = cipher ? EVP_CIPHER_CTX_new() : NULL;
	static const unsigned char key[64], iv[16];
	int len;

	if (!ctx)
		return;
	EVP_EncryptInit_ex(ctx, cipher, NULL, key, iv);
	EVP_EncryptUpdate(ctx, buf, &len, buf, BYTES);
	EVP_CIPHER_CTX_free(ctx);
}

KEEP void sign_round(EVP_PKEY *key)
{
	EVP_MD_CTX *ctx = key ? EVP_MD_CTX_new() : NULL;
	unsigned char sig[512];
	size_t len = sizeof(sig);

	if (!ctx)
		return;
	EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key);
	EVP_DigestSign(ctx, sig, &len, (const unsigned char *)"x", 1);
	EVP_MD_CTX_free(ctx);
}

int main(int argc, char **argv)
{
	static unsigned char buf[BYTES + 64];
	EVP_PKEY *rsa, *ec;

	victim_lives(argc > 1 ? argv[1] : NULL);
	while (argc > 2) {
		digest_round(EVP_sha256(), buf);
		digest_round(EVP_sha512(), buf);
	}
	rsa = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)1024);
	ec = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
	for (;;) {
		digest_round(EVP_md5(), buf);
		digest_round(EVP_sha1(), buf);
		digest_round(EVP_sha3_256(), buf);
		cipher_round(EVP_aes_128_cbc(), buf);
		cipher_round(EVP_aes_256_gcm(), buf);
		cipher_round(EVP_aes_128_ctr(), buf);
		cipher_round(EVP_chacha20_poly1305(), buf);
		sign_round(rsa);
		sign_round(ec);
	}
}
