"""SHA-256 of short texts without an object of hashlib for each: in a running program those cost more than the hashing.

Pure functions, compiled into each module that signs: `_auth` does not know the engine, where the rest of csrc/ is.
"""

cdef extern from "ob_sha256.h" nogil:
    enum:
        OB_SHA256_BYTES

    ctypedef struct ob_sha256:
        pass

    void ob_sha256_init(ob_sha256* sha)
    void ob_sha256_update(ob_sha256* sha, const void* data, size_t size)
    void ob_sha256_update_pair(ob_sha256* a, const void* data_a, ob_sha256* b, const void* data_b, size_t size)
    bint ob_sha256_has_pairs()
    void ob_sha256_final(ob_sha256* sha, unsigned char* digest)
    void ob_hmac_key(const unsigned char* key, size_t size, ob_sha256* inner, ob_sha256* outer)
    void ob_hmac(const ob_sha256* inner, const ob_sha256* outer, const void* data, size_t size, unsigned char* mac)
    void ob_hex(const unsigned char* digest, char* text)
