/*
 * security_headers.c - the same few headers on every answer (OWASP Secure Headers Project). HSTS
 * only where TLS is spoken, here or by the trusted proxy that says so.
 */
#include "gateway/middleware/middleware.h"

void security_headers_hook(struct request *req)
{
    bool tls = req->conf->tls_certificate.n > 0 ||
               (req->peer_trusted && slice_is(request_header(req, "x-forwarded-proto"), "https"));

    request_set_header(req, "X-Content-Type-Options", SLICE("nosniff"));
    request_set_header(req, "X-Frame-Options", SLICE("DENY"));
    request_set_header(req, "Referrer-Policy", SLICE("no-referrer"));
    if (tls)
        request_set_header(req, "Strict-Transport-Security", SLICE("max-age=31536000"));
}
