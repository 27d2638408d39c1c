/* ob_form.h - what many requests have in common, and the few places in which they differ: key, hash, checksum, length.
 *
 * Those places are marks, bytes that no header can hold, in the texts of the form. Immutable once made; any thread.
 */
#ifndef OB_FORM_H
#define OB_FORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ob_digest.h"
#include "ob_sha256.h"
#include "ob_transfer.h"

#define OB_MARK_HASH '\x01'   /* SHA-256 of the body, in hexadecimal */
#define OB_MARK_CHECK '\x02'  /* its checksum, in base64 */
#define OB_MARK_LENGTH '\x03' /* its length; nothing where that is 0 */
#define OB_MARK_KEY '\x04'    /* the key as JSON has it between quotation marks; in `body_head` only */

typedef enum {
  OB_SIGN_NOT,
  OB_SIGN_SIGV4,     /* https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html */
  OB_SIGN_SHARED_KEY /* https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key */
} ob_signing;

typedef struct ob_form_spec {
  const char *method;
  const char *origin; /* scheme://host:port */
  const char *path;   /* what stands before the key, encoded */
  const char *suffix; /* what stands after it: "", or a query that is the same for all */
  bool keep_slash;    /* slashes in keys are sent as they are */
  ob_signing signing;
  const char *before;        /* of what is signed, up to the path */
  const char *after;         /* and behind it; marks are allowed in both */
  const char *scope_text;    /* SigV4: of the text to sign, up to the hash */
  const char *authorization; /* header value up to the signature */
  ob_sha256 inner, outer;    /* of the HMAC */
  const char
      *body_head; /* NULL: the content alone is the body, and the key stands in the path. Else what goes before it */
  const char *body_tail; /* and behind it; the key stands in the head only */
  ob_digest_kind check;  /* what OB_MARK_CHECK stands for; NONE: SHA-256 */
} ob_form_spec;

typedef struct ob_form ob_form;

/* headers: name NUL value NUL ... NUL; values may hold marks. NULL: out of memory. */
ob_form *ob_form_new(const ob_form_spec *spec, const char *headers, size_t headers_len);
void ob_form_free(ob_form *form);
/* URL, method, headers, signature and, where `body` is not NULL, the body of one request. The body's memory has to hold until END.
 * 0, or what ob_transfer_set_url and its kin return. */
int ob_form_fill(const ob_form *form, ob_transfer *x, const char *key, const ob_iovec *body);
/* Add headers as they are: name NUL value NUL ... NUL. */
int ob_form_add_headers(ob_transfer *x, const char *headers);

#endif
