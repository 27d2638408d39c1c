/* ob_form.c - see ob_form.h. */
#include "ob_form.h"

#include "ob_port.h"

#define STACK_BYTES 1024
#define MARKS "\x01\x02\x03\x04"
#define MARK_ROOM 64 /* no mark but the key's stands for more */

struct ob_form {
  ob_form_spec spec;
  const char *headers;
  bool hashes, checks;     /* some text has such a mark */
  bool has_marked_headers; /* else they are copied as they are */
  char texts[];
};

/* What stands for the marks of one request. */
typedef struct filling {
  char hash[2 * OB_SHA256_BYTES + 1];
  char check[48];
  char length[24];
  const char *key;
} filling;

/* ---- making one ---------------------------------------------------------------------------------------------------- */

static bool has_mark(const char *text, size_t len, char mark) {
  return text != NULL && memchr(text, mark, len) != NULL;
}

ob_form *ob_form_new(const ob_form_spec *spec, const char *headers, size_t headers_len) {
  const char *given[] = {
      spec->method, spec->origin,     spec->path,          spec->suffix,    spec->before,
      spec->after,  spec->scope_text, spec->authorization, spec->body_head, spec->body_tail,
  };
  size_t n = sizeof given / sizeof *given, room = headers_len + 1;
  for (size_t i = 0; i < n; i++) room += given[i] == NULL ? 0 : strlen(given[i]) + 1;
  ob_form *form = ob_malloc(sizeof *form + room);
  if (form == NULL) return NULL;
  form->spec = *spec;
  const char **kept[] = {
      &form->spec.method,    &form->spec.origin,    &form->spec.path,       &form->spec.suffix,
      &form->spec.before,    &form->spec.after,     &form->spec.scope_text, &form->spec.authorization,
      &form->spec.body_head, &form->spec.body_tail,
  };
  char *at = form->texts;
  for (size_t i = 0; i < n; i++) {
    if (given[i] == NULL) continue;
    size_t size = strlen(given[i]) + 1;
    memcpy(at, given[i], size);
    *kept[i] = at;
    at += size;
  }
  memcpy(at, headers, headers_len);
  at[headers_len] = '\0';
  form->headers = at;
  size_t used = (size_t)(at - form->texts) + headers_len;
  form->hashes = has_mark(form->texts, used, OB_MARK_HASH);
  form->checks = has_mark(form->texts, used, OB_MARK_CHECK);
  form->has_marked_headers = has_mark(headers, headers_len, OB_MARK_HASH) ||
                             has_mark(headers, headers_len, OB_MARK_CHECK) ||
                             has_mark(headers, headers_len, OB_MARK_LENGTH);
  return form;
}

void ob_form_free(ob_form *form) {
  ob_free(form);
}

/* ---- encodings ------------------------------------------------------------------------------------------------------ */

static const char digits[] = "0123456789ABCDEF";

static bool is_plain(unsigned char c, bool keep_slash) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
         c == '_' || c == '~' || (keep_slash && c == '/');
}

/* Percent-encodes the key behind what stands at `at`; one or two dots that are a path segment of their own would be resolved on the way. */
static char *quote(char *at, const char *key, bool keep_slash) {
  bool dots = !keep_slash && at[-1] == '/' && (strcmp(key, ".") == 0 || strcmp(key, "..") == 0);
  for (; *key != '\0'; key++) {
    unsigned char c = (unsigned char)*key;
    if (is_plain(c, keep_slash) && !dots) {
      *at++ = (char)c;
    } else {
      *at++ = '%';
      *at++ = digits[c >> 4];
      *at++ = digits[c & 15];
    }
  }
  return at;
}

static char *quote_json(char *at, const char *key) {
  for (; *key != '\0'; key++) {
    unsigned char c = (unsigned char)*key;
    if (c == '"' || c == '\\') {
      *at++ = '\\';
      *at++ = (char)c;
    } else if (c < 0x20 || c == 0x7f) {
      memcpy(at, "\\u00", 4);
      at[4] = digits[c >> 4];
      at[5] = digits[c & 15];
      at += 6;
    } else {
      *at++ = (char)c;
    }
  }
  return at;
}

static size_t base64(const uint8_t *data, size_t len, char *text) {
  static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  char *at = text;
  for (size_t i = 0; i < len; i += 3) {
    size_t rest = len - i;
    uint32_t bits =
        (uint32_t)data[i] << 16 | (rest > 1 ? (uint32_t)data[i + 1] << 8 : 0) | (rest > 2 ? data[i + 2] : 0);
    *at++ = alphabet[bits >> 18];
    *at++ = alphabet[bits >> 12 & 63];
    *at++ = rest > 1 ? alphabet[bits >> 6 & 63] : '=';
    *at++ = rest > 2 ? alphabet[bits & 63] : '=';
  }
  *at = '\0';
  return (size_t)(at - text);
}

/* ---- marks ---------------------------------------------------------------------------------------------------------- */

static const char *text_of(const filling *values, char mark) {
  return mark == OB_MARK_HASH ? values->hash : mark == OB_MARK_CHECK ? values->check : values->length;
}

static void hash_filled(ob_sha256 *sha, const char *text, const filling *values) {
  while (*text != '\0') {
    size_t plain = strcspn(text, MARKS);
    ob_sha256_update(sha, text, plain);
    text += plain;
    if (*text == '\0') return;
    const char *value = text_of(values, *text++);
    ob_sha256_update(sha, value, strlen(value));
  }
}

static size_t filled_room(const char *text, const filling *values) {
  size_t room = strlen(text) + 1;
  for (const char *at = strpbrk(text, MARKS); at != NULL; at = strpbrk(at + 1, MARKS)) {
    room += *at == OB_MARK_KEY ? 6 * strlen(values->key) : MARK_ROOM;
  }
  return room;
}

static char *fill_text(char *out, const char *text, const filling *values) {
  while (*text != '\0') {
    size_t plain = strcspn(text, MARKS);
    memcpy(out, text, plain);
    out += plain;
    text += plain;
    if (*text == '\0') break;
    if (*text == OB_MARK_KEY) {
      out = quote_json(out, values->key);
    } else {
      const char *value = text_of(values, *text);
      size_t len = strlen(value);
      memcpy(out, value, len);
      out += len;
    }
    text++;
  }
  return out;
}

static void hash_of_body(const ob_iovec *body, uint8_t digest[OB_SHA256_BYTES]) {
  ob_sha256 sha;
  ob_sha256_init(&sha);
  ob_sha256_update(&sha, body->data, body->len);
  ob_sha256_final(&sha, digest);
}

static void read_body(const ob_form *form, const ob_iovec *body, filling *values) {
  ob_digest_kind check = form->spec.check;
  uint8_t digest[OB_SHA256_BYTES];
  bool wants_sha = form->hashes || (form->checks && check == OB_DIGEST_NONE);
  if (body->len > 0) snprintf(values->length, sizeof values->length, "%llu", (unsigned long long)body->len);
  if (wants_sha) hash_of_body(body, digest);
  if (form->hashes) {
    ob_hex(digest, values->hash);
    values->hash[2 * OB_SHA256_BYTES] = '\0';
  }
  if (!form->checks) return;
  if (check == OB_DIGEST_NONE) {
    base64(digest, OB_SHA256_BYTES, values->check);
    return;
  }
  ob_digest crc = {.kind = check};
  ob_digest_update(&crc, body->data, body->len);
  size_t size = check == OB_DIGEST_CRC64NVME ? 8 : 4;
  uint8_t bytes[8];
  for (size_t i = 0; i < size; i++) bytes[i] = (uint8_t)(crc.value >> 8 * (size - 1 - i));
  base64(bytes, size, values->check);
}

/* ---- requests ------------------------------------------------------------------------------------------------------- */

int ob_form_add_headers(ob_transfer *x, const char *headers) {
  while (headers != NULL && *headers != '\0') {
    const char *value = headers + strlen(headers) + 1;
    int rc = ob_transfer_add_header(x, headers, strlen(headers), value, strlen(value));
    if (rc != 0) return rc;
    headers = value + strlen(value) + 1;
  }
  return 0;
}

static int add_filled_headers(const ob_form *form, ob_transfer *x, const filling *values) {
  const char *headers = form->headers;
  if (!form->has_marked_headers) return ob_form_add_headers(x, headers);
  while (*headers != '\0') {
    const char *value = headers + strlen(headers) + 1;
    char stack[STACK_BYTES];
    size_t room = filled_room(value, values);
    char *text = room <= sizeof stack ? stack : ob_malloc(room);
    if (text == NULL) return -1;
    char *end = fill_text(text, value, values);
    int rc = ob_transfer_add_header(x, headers, strlen(headers), text, (size_t)(end - text));
    if (text != stack) ob_free(text);
    if (rc != 0) return rc;
    headers = value + strlen(value) + 1;
  }
  return 0;
}

static void sign_sigv4(const ob_form_spec *spec, const char *path, size_t path_len, const filling *values,
                       uint8_t mac[OB_SHA256_BYTES]) {
  ob_sha256 sha;
  ob_sha256_init(&sha);
  hash_filled(&sha, spec->before, values);
  ob_sha256_update(&sha, path, path_len);
  hash_filled(&sha, spec->after, values);
  ob_sha256_final(&sha, mac);
  char hash[2 * OB_SHA256_BYTES];
  ob_hex(mac, hash);
  sha = spec->inner;
  ob_sha256_update(&sha, spec->scope_text, strlen(spec->scope_text));
  ob_sha256_update(&sha, hash, sizeof hash);
  ob_sha256_final(&sha, mac);
}

static int add_signature(const ob_form *form, ob_transfer *x, const char *path, size_t path_len,
                         const filling *values) {
  const ob_form_spec *spec = &form->spec;
  uint8_t mac[OB_SHA256_BYTES];
  ob_sha256 sha;
  if (spec->signing == OB_SIGN_SIGV4) {
    sign_sigv4(spec, path, path_len, values, mac);
  } else {
    sha = spec->inner;
    hash_filled(&sha, spec->before, values);
    ob_sha256_update(&sha, path, path_len);
    hash_filled(&sha, spec->after, values);
    ob_sha256_final(&sha, mac);
  }
  sha = spec->outer;
  ob_sha256_update(&sha, mac, sizeof mac);
  ob_sha256_final(&sha, mac);

  char stack[STACK_BYTES];
  size_t prefix_len = strlen(spec->authorization), len = prefix_len, room = prefix_len + MARK_ROOM + 1;
  char *text = room <= sizeof stack ? stack : ob_malloc(room);
  if (text == NULL) return -1;
  memcpy(text, spec->authorization, prefix_len);
  if (spec->signing == OB_SIGN_SIGV4) {
    ob_hex(mac, text + prefix_len);
    len += 2 * OB_SHA256_BYTES;
  } else {
    len += base64(mac, sizeof mac, text + prefix_len);
  }
  int rc = ob_transfer_add_header(x, "authorization", 13, text, len);
  if (text != stack) ob_free(text);
  return rc;
}

static int add_body(const ob_form *form, ob_transfer *x, const ob_iovec *body, const filling *values) {
  const ob_form_spec *spec = &form->spec;
  if (spec->body_head == NULL) return ob_transfer_set_source(x, body, body->len > 0 ? 1 : 0);
  char *head = ob_transfer_take_memory(x, filled_room(spec->body_head, values));
  if (head == NULL) return -1;
  size_t head_len = (size_t)(fill_text(head, spec->body_head, values) - head);
  ob_iovec parts[3] = {{head, head_len}, *body, {spec->body_tail, strlen(spec->body_tail)}};
  size_t tail_len = parts[2].len;
  char *tail = ob_transfer_take_memory(x, tail_len); /* the form may be replaced while the request is under way */
  if (tail == NULL) return -1;
  memcpy(tail, spec->body_tail, tail_len);
  parts[2].data = tail;
  return ob_transfer_set_source(x, parts, 3);
}

int ob_form_fill(const ob_form *form, ob_transfer *x, const char *key, const ob_iovec *body) {
  const ob_form_spec *spec = &form->spec;
  filling values = {.key = key};
  bool key_in_path = spec->body_head == NULL;
  size_t origin_len = strlen(spec->origin), path_len = strlen(spec->path), suffix_len = strlen(spec->suffix);
  size_t room = origin_len + path_len + (key_in_path ? 3 * strlen(key) : 0) + suffix_len + 1;
  char stack[STACK_BYTES];
  char *url = room <= sizeof stack ? stack : ob_malloc(room);
  if (url == NULL) return -1;
  if (body != NULL) read_body(form, body, &values);
  memcpy(url, spec->origin, origin_len);
  char *path = url + origin_len;
  memcpy(path, spec->path, path_len);
  char *end = path + path_len;
  if (key_in_path) end = quote(end, key, spec->keep_slash);
  path_len = (size_t)(end - path);
  memcpy(end, spec->suffix, suffix_len);
  end += suffix_len;
  int rc = ob_transfer_set_url(x, url, (size_t)(end - url));
  if (rc == 0 && strcmp(spec->method, "GET") != 0) rc = ob_transfer_set_method(x, spec->method, strlen(spec->method));
  if (rc == 0) rc = add_filled_headers(form, x, &values);
  if (rc == 0 && spec->signing != OB_SIGN_NOT) rc = add_signature(form, x, path, path_len, &values);
  if (rc == 0 && body != NULL) rc = add_body(form, x, body, &values);
  if (url != stack) ob_free(url);
  return rc;
}
