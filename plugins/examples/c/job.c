// A job in C: three items that end in three ways.
#include "example.h"
#include "mistakes.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

static const char *DESCRIPTION =
    "{\"name\":\"example-c\",\"version\":\"0.1.0\",\"summary\":\"Three items that end in three ways, in C.\","
    "\"config\":{\"type\":\"object\",\"properties\":{\"service\":{\"type\":\"string\"},"
    "\"fail_times\":{\"type\":\"integer\",\"minimum\":0},\"also\":{\"type\":\"string\"},"
    "\"discover_mistake\":{\"type\":\"string\"}},\"required\":[\"service\"],\"additionalProperties\":false},"
    "\"topics\":[\"ExampleDone\"],\"capabilities\":[\"keyvalue\"]}";

enum { KEY_BYTES = 512, TEXT_BYTES = 1024 };

// Each attempt has its own instance, which ends with it, so no memory is freed here.

static char *copied(const uint8_t *bytes, size_t length) {
    char *text = malloc(length + 1);
    if (!text) abort();
    memcpy(text, bytes, length);
    text[length] = 0;
    return text;
}

static char *setting(const char *key, char *otherwise) {
    example_string_t name;
    example_string_set(&name, key);
    example_option_string_t value;
    wasi_config_store_error_t error;
    if (!wasi_config_store_get(&name, &value, &error) || !value.is_some) return otherwise;
    return copied(value.val.ptr, value.val.len);
}

static void info(const char *text) {
    example_string_t context, message;
    example_string_set(&context, "example");
    example_string_set(&message, text);
    wasi_logging_logging_log(WASI_LOGGING_LOGGING_LEVEL_INFO, &context, &message);
}

static bool resolved(exports_tidemill_job_job_outcome_t *outcome, const char *note) {
    outcome->tag = TIDEMILL_JOB_TYPES_OUTCOME_RESOLVED;
    outcome->val.resolved.is_some = true;
    example_string_dup(&outcome->val.resolved.val, note);
    return true;
}

static bool transient(exports_tidemill_job_job_failure_t *failure, const char *code, const char *message) {
    failure->tag = TIDEMILL_JOB_TYPES_FAILURE_TRANSIENT;
    example_string_dup(&failure->val.transient.code, code);
    example_string_dup(&failure->val.transient.message, message);
    return false;
}

static bool permanent(exports_tidemill_job_job_failure_t *failure, const char *code, const char *message) {
    failure->tag = TIDEMILL_JOB_TYPES_FAILURE_PERMANENT;
    example_string_dup(&failure->val.permanent.code, code);
    example_string_dup(&failure->val.permanent.message, message);
    return false;
}

// Sends a GET to an http:// address. Returns the status, or -1; `text` gets the first bytes of the body.
static int get(const char *url, char *text, size_t room) {
    const char *authority_begins = strstr(url, "://");
    if (!authority_begins) return -1;
    authority_begins += 3;
    size_t authority_bytes = strcspn(authority_begins, "/");
    wasi_http_types_own_outgoing_request_t request =
        wasi_http_types_constructor_outgoing_request(wasi_http_types_constructor_fields());
    wasi_http_types_borrow_outgoing_request_t parts = wasi_http_types_borrow_outgoing_request(request);
    wasi_http_types_scheme_t scheme = {.tag = WASI_HTTP_TYPES_SCHEME_HTTP};
    example_string_t authority = {(uint8_t *)authority_begins, authority_bytes}, path;
    example_string_set(&path, authority_begins[authority_bytes] ? authority_begins + authority_bytes : "/");
    wasi_http_types_method_outgoing_request_set_scheme(parts, &scheme);
    wasi_http_types_method_outgoing_request_set_authority(parts, &authority);
    wasi_http_types_method_outgoing_request_set_path_with_query(parts, &path);

    wasi_http_outgoing_handler_own_future_incoming_response_t future;
    wasi_http_outgoing_handler_error_code_t error;
    if (!wasi_http_outgoing_handler_handle(request, NULL, &future, &error)) return -1;
    wasi_http_types_borrow_future_incoming_response_t waits = wasi_http_types_borrow_future_incoming_response(future);
    wasi_io_poll_own_pollable_t pollable = wasi_http_types_method_future_incoming_response_subscribe(waits);
    wasi_io_poll_method_pollable_block(wasi_io_poll_borrow_pollable(pollable));
    wasi_io_poll_pollable_drop_own(pollable);
    wasi_http_types_result_result_own_incoming_response_error_code_void_t answer;
    if (!wasi_http_types_method_future_incoming_response_get(waits, &answer)) return -1;
    if (answer.is_err || answer.val.ok.is_err) return -1;

    wasi_http_types_borrow_incoming_response_t response =
        wasi_http_types_borrow_incoming_response(answer.val.ok.val.ok);
    wasi_http_types_own_incoming_body_t body;
    if (!wasi_http_types_method_incoming_response_consume(response, &body)) return -1;
    wasi_http_types_own_input_stream_t stream;
    if (!wasi_http_types_method_incoming_body_stream(wasi_http_types_borrow_incoming_body(body), &stream)) return -1;
    wasi_io_streams_borrow_input_stream_t reads = wasi_io_streams_borrow_input_stream(stream);
    wasi_io_streams_stream_error_t end;
    example_list_u8_t bytes;
    size_t have = 0;
    while (wasi_io_streams_method_input_stream_blocking_read(reads, 4096, &bytes, &end)) {
        size_t take = bytes.len < room - 1 - have ? bytes.len : room - 1 - have;
        memcpy(text + have, bytes.ptr, take);
        have += take;
    }
    text[have] = 0;
    return wasi_http_types_method_incoming_response_status(response);
}

// Increments the number under `count` in the key-value store and returns it; -1 if the store refused.
static int counted(void) {
    example_string_t name, key;
    example_string_set(&name, "default");
    example_string_set(&key, "count");
    wasi_keyvalue_store_own_bucket_t bucket;
    wasi_keyvalue_store_error_t error;
    if (!wasi_keyvalue_store_open(&name, &bucket, &error)) return -1;
    wasi_keyvalue_store_borrow_bucket_t borrowed = wasi_keyvalue_store_borrow_bucket(bucket);
    example_option_list_u8_t stored;
    if (!wasi_keyvalue_store_method_bucket_get(borrowed, &key, &stored, &error)) return -1;
    int count = stored.is_some ? atoi(copied(stored.val.ptr, stored.val.len)) + 1 : 1;
    char number[16];
    snprintf(number, sizeof number, "%d", count);
    example_list_u8_t value = {(uint8_t *)number, strlen(number)};
    if (!wasi_keyvalue_store_method_bucket_set(borrowed, &key, &value, &error)) return -1;
    return count;
}

// Calls a service, counts in the key-value store, and publishes an event.
static bool good(exports_tidemill_job_job_outcome_t *outcome, exports_tidemill_job_job_failure_t *failure) {
    char body[512], text[TEXT_BYTES];
    int status = get(setting("service", ""), body, sizeof body);
    if (status < 0) return transient(failure, "http", "the service did not answer");
    int count = counted();
    if (count < 0) return transient(failure, "keyvalue", "the key-value store refused");
    example_string_t topic, key, payload, id;
    tidemill_job_events_error_t refused;
    snprintf(text, sizeof text, "{\"count\":%d}", count);
    example_string_set(&topic, "ExampleDone");
    example_string_set(&key, "good");
    example_string_set(&payload, text);
    if (!tidemill_job_events_publish(&topic, &key, &payload, &id, &refused)) {
        return permanent(failure, "event", "the event was refused");
    }
    snprintf(text, sizeof text, "the service answered %d %s", status, body);
    return resolved(outcome, text);
}

static bool clock_is_right(exports_tidemill_job_job_outcome_t *outcome, exports_tidemill_job_job_failure_t *failure) {
    struct timespec before, after;
    struct timeval now;
    if (clock_gettime(CLOCK_MONOTONIC, &before) || gettimeofday(&now, NULL) ||
        clock_gettime(CLOCK_MONOTONIC, &after)) {
        return permanent(failure, "clock", "there is no clock");
    }
    long long passed = (after.tv_sec - before.tv_sec) * 1000000000LL + after.tv_nsec - before.tv_nsec;
    if (passed < 0) return permanent(failure, "clock", "the monotonic clock goes backwards");
    char note[64];
    snprintf(note, sizeof note, "at %lld", (long long)now.tv_sec * 1000 + now.tv_usec / 1000);
    return resolved(outcome, note);
}

void exports_tidemill_job_job_describe(example_string_t *description) {
    example_string_dup(description, DESCRIPTION);
}

bool exports_tidemill_job_job_discover(exports_tidemill_job_job_page_request_t *request,
                                       exports_tidemill_job_job_page_t *page,
                                       exports_tidemill_job_job_failure_t *failure) {
    char *mistake = setting("discover_mistake", NULL);
    if (mistake) make_mistake(mistake);
    char keys[TEXT_BYTES];
    snprintf(keys, sizeof keys, "good,flaky,bad,%s", setting("also", ""));
    page->next.is_some = false;
    page->items.len = 0;
    page->items.ptr = calloc(sizeof keys / 2, sizeof *page->items.ptr);
    if (!page->items.ptr) abort();
    for (char *key = strtok(keys, ","); key; key = strtok(NULL, ",")) {
        example_string_dup(&page->items.ptr[page->items.len++].key, key);
    }
    return true;
}

bool exports_tidemill_job_job_process(exports_tidemill_job_job_item_t *item,
                                      exports_tidemill_job_job_outcome_t *outcome,
                                      exports_tidemill_job_job_failure_t *failure) {
    char text[KEY_BYTES + 64];
    char *key = copied(item->key.ptr, item->key.len);
    snprintf(text, sizeof text, "%s, attempt %u", key, item->attempt);
    info(text);
    if (!strcmp(key, "good")) return good(outcome, failure);
    if (!strcmp(key, "flaky")) {
        bool early = item->attempt <= (unsigned)atoi(setting("fail_times", "2"));
        snprintf(text, sizeof text, early ? "attempt %u is too early" : "at attempt %u", item->attempt);
        // A failure of the contract is an answer. A trap is a crash; the host reports the last lines of stderr.
        return early ? transient(failure, "too-early", text) : resolved(outcome, text);
    }
    if (!strcmp(key, "bad")) return permanent(failure, "never", "this item never works");
    if (!strcmp(key, "clock")) return clock_is_right(outcome, failure);
    make_mistake(key);
}
