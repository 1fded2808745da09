/* A subject in C: conv2d and max_pool2d, float64 and float32, spoken to as docs/PROTOCOL.md says.

   Everything is computed in double, as the standard's formulas stand. The header is searched, not parsed:
   the judge writes it without blanks between its parts, and texts in it hold no quotation marks. */

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int there, axes, wide; /* wide: float64 */
    long size[8];
    const char *data;
} Array;

static char *header;
static const char *payload;
static char request[32];

static void write_all(const void *bytes, size_t count) { fwrite(bytes, 1, count, stdout); }

static void send(const char *text, const void *one, size_t ones, const void *two, size_t twos) {
    size_t length = strlen(text), padded = (length + 7) / 8 * 8;
    uint64_t sizes[2] = {8 + padded + ones + twos, padded};
    write_all(sizes, 16);
    write_all(text, length);
    while (length++ < padded) fputc(' ', stdout);
    write_all(one, ones);
    write_all(two, twos);
    fflush(stdout);
}

static int refuse(const char *why) {
    char text[300];
    snprintf(text, sizeof text, "{\"__metadata__\":{\"request\":\"%s\",\"raised\":\"refused\",\"message\":\"%s\"}}",
             request, why);
    send(text, NULL, 0, NULL, 0);
    return 0;
}

/* The text of a parameter, or NULL. */
static const char *text_of(const char *name) {
    char key[64];
    snprintf(key, sizeof key, "\"%s\":\"", name);
    const char *found = strstr(header, key);
    return found ? found + strlen(key) : NULL;
}

/* The integers in a text, up to a delimiter; returns how many. */
static int integers(const char *text, char end, long *values, int most) {
    int count = 0;
    while (*text && *text != end && count < most) {
        if (*text == '-' || (*text >= '0' && *text <= '9')) {
            char *after;
            values[count++] = strtol(text, &after, 10);
            text = after;
        } else {
            text++;
        }
    }
    return count;
}

static Array array_of(const char *name) {
    char key[64];
    Array array = {0};
    snprintf(key, sizeof key, "\"%s\":{\"dtype\":\"", name);
    const char *found = strstr(header, key);
    if (!found) return array;
    long offsets[2];
    array.there = 1;
    array.wide = strncmp(found + strlen(key), "F64", 3) == 0;
    array.axes = integers(strstr(found, "\"shape\":[") + 9, ']', array.size, 8);
    integers(strstr(found, "\"data_offsets\":[") + 16, ']', offsets, 2);
    array.data = payload + offsets[0];
    return array;
}

static double at(const Array *array, long i) {
    return array->wide ? ((const double *)array->data)[i] : (double)((const float *)array->data)[i];
}

static void put(char *data, int wide, long i, double value) {
    if (wide)
        ((double *)data)[i] = value;
    else
        ((float *)data)[i] = (float)value;
}

typedef struct {
    long k[2], s[2], low[2], high[2], d[2], o[2];
    const char *problem;
} Window;

static Window window_of(const long *n, const long *kernel) {
    Window w = {{kernel[0], kernel[1]}, {kernel[0], kernel[1]}, {0}, {0}, {0}, {0}, NULL};
    long padding[4];
    integers(text_of("stride"), '"', w.s, 2); /* "null" leaves the kernel size */
    integers(text_of("dilation"), '"', w.d, 2);
    integers(text_of("padding"), '"', padding, 4);
    const char *ceil_mode = text_of("ceil_mode");
    for (int axis = 0; axis < 2; axis++) {
        w.low[axis] = padding[2 * axis];
        w.high[axis] = padding[2 * axis + 1];
        if (w.k[axis] < 1 || w.s[axis] < 1 || w.d[axis] < 1 || w.low[axis] < 0 || w.high[axis] < 0) {
            w.problem = "a kernel, stride or dilation below one, or negative padding";
            return w;
        }
        long room = n[axis] + w.low[axis] + w.high[axis] - w.d[axis] * (w.k[axis] - 1) - 1;
        int up = ceil_mode && *ceil_mode == 't';
        double steps = (double)room / (double)w.s[axis];
        w.o[axis] = (long)(up ? ceil(steps) : floor(steps)) + 1;
        if (up && (w.o[axis] - 1) * w.s[axis] >= n[axis] + w.low[axis]) w.o[axis]--;
        if (w.o[axis] < 1) {
            w.problem = "the kernel does not fit";
            return w;
        }
    }
    return w;
}

static int conv2d(void) {
    Array x = array_of("x"), w = array_of("w"), b = array_of("b");
    long groups = 1;
    integers(text_of("groups"), '"', &groups, 1);
    if (!x.there || !w.there || x.axes != 4 || w.axes != 4) return refuse("x and w have four axes");
    if (x.wide != w.wide || (b.there && b.wide != x.wide)) return refuse("the dtypes differ");
    long N = x.size[0], C = x.size[1], O = w.size[0], I = w.size[1];
    if (groups < 1 || C % groups || O % groups) return refuse("groups do not divide the channels");
    if (I != C / groups) return refuse("the channels of x and w do not match");
    if (b.there && (b.axes != 1 || b.size[0] != O)) return refuse("b has one element for each output channel");
    Window v = window_of(x.size + 2, w.size + 2);
    if (v.problem) return refuse(v.problem);
    size_t bytes = (size_t)(N * O * v.o[0] * v.o[1]) * (x.wide ? 8 : 4);
    char *y = malloc(bytes + 8);
    long out = 0;
    for (long n = 0; n < N; n++)
        for (long o = 0; o < O; o++)
            for (long p = 0; p < v.o[0]; p++)
                for (long q = 0; q < v.o[1]; q++) {
                    double sum = b.there ? at(&b, o) : 0.0;
                    for (long i = 0; i < I; i++)
                        for (long r = 0; r < v.k[0]; r++)
                            for (long t = 0; t < v.k[1]; t++) {
                                long h = p * v.s[0] - v.low[0] + r * v.d[0], u = q * v.s[1] - v.low[1] + t * v.d[1];
                                if (h < 0 || h >= x.size[2] || u < 0 || u >= x.size[3]) continue;
                                long c = o / (O / groups) * I + i;
                                sum += at(&x, ((n * C + c) * x.size[2] + h) * x.size[3] + u) *
                                       at(&w, ((o * I + i) * v.k[0] + r) * v.k[1] + t);
                            }
                    put(y, x.wide, out++, sum);
                }
    char text[400];
    snprintf(text, sizeof text,
             "{\"__metadata__\":{\"request\":\"%s\"},\"y\":{\"dtype\":\"%s\",\"shape\":[%ld,%ld,%ld,%ld],"
             "\"data_offsets\":[0,%zu]}}",
             request, x.wide ? "F64" : "F32", N, O, v.o[0], v.o[1], bytes);
    send(text, y, bytes, NULL, 0);
    free(y);
    return 0;
}

static int max_pool2d(void) {
    Array x = array_of("x");
    long kernel[2];
    if (!x.there || x.axes != 4) return refuse("x has four axes");
    integers(text_of("kernel"), '"', kernel, 2);
    Window v = window_of(x.size + 2, kernel);
    if (v.problem) return refuse(v.problem);
    long planes = x.size[0] * x.size[1], H = x.size[2], W = x.size[3], count = planes * v.o[0] * v.o[1];
    size_t bytes = (size_t)count * (x.wide ? 8 : 4);
    char *y = malloc(bytes + 8);
    int64_t *indices = malloc((size_t)count * 8 + 8);
    long out = 0;
    for (long plane = 0; plane < planes; plane++)
        for (long p = 0; p < v.o[0]; p++)
            for (long q = 0; q < v.o[1]; q++, out++) {
                double best = -INFINITY;
                int64_t index = -1;
                for (long r = 0; r < v.k[0]; r++)
                    for (long t = 0; t < v.k[1]; t++) {
                        long h = p * v.s[0] - v.low[0] + r * v.d[0], u = q * v.s[1] - v.low[1] + t * v.d[1];
                        if (h < 0 || h >= H || u < 0 || u >= W) continue;
                        double value = at(&x, (plane * H + h) * W + u);
                        if (index < 0 || value > best || (isnan(value) && !isnan(best))) {
                            best = value;
                            index = h * W + u;
                        }
                    }
                put(y, x.wide, out, best);
                indices[out] = index;
            }
    /* Wide elements first, so that each array lies where its elements are aligned. */
    char text[600], shape[100];
    snprintf(shape, sizeof shape, "[%ld,%ld,%ld,%ld]", x.size[0], x.size[1], v.o[0], v.o[1]);
    size_t first = (size_t)count * 8;
    snprintf(text, sizeof text,
             "{\"__metadata__\":{\"request\":\"%s\"},\"indices\":{\"dtype\":\"I64\",\"shape\":%s,"
             "\"data_offsets\":[0,%zu]},\"y\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}}",
             request, shape, first, x.wide ? "F64" : "F32", shape, first, first + bytes);
    send(text, indices, first, y, bytes);
    free(y);
    free(indices);
    return 0;
}

/* What the program offers; the quotes of JSON within JSON are escaped, and these escapes once more by C. */
#define Q "\\\""
#define LOW_HIGH Q "claims" Q ":{" Q "padding" Q ":" Q "low-high" Q
static const char *DESCRIPTION =
    "{\"__metadata__\":{\"request\":\"0\",\"description\":\"{" Q "convform" Q ":1," Q "adapters" Q ":[{"
    Q "name" Q ":" Q "in-c" Q "," Q "operators" Q ":{"
    Q "conv2d" Q ":{" Q "takes" Q ":[" Q "x" Q "," Q "w" Q "," Q "b" Q "," Q "stride" Q "," Q "padding" Q ","
    Q "dilation" Q "," Q "groups" Q "]," Q "bias_optional" Q ":true," LOW_HIGH "}},"
    Q "max_pool2d" Q ":{" Q "takes" Q ":[" Q "x" Q "," Q "kernel" Q "," Q "stride" Q "," Q "padding" Q ","
    Q "dilation" Q "," Q "ceil_mode" Q "]," LOW_HIGH "," Q "indices" Q ":true}}}}]}\"}}";

int main(void) {
    uint64_t sizes[2];
    while (fread(sizes, 8, 2, stdin) == 2) {
        char *body = malloc(sizes[0] - 8 + 1);
        if (fread(body, 1, sizes[0] - 8, stdin) != sizes[0] - 8) return 1;
        /* A copy of the header, so that it ends with a zero. */
        header = malloc(sizes[1] + 1);
        memcpy(header, body, sizes[1]);
        header[sizes[1]] = 0;
        payload = body + sizes[1];
        snprintf(request, sizeof request, "%ld", strtol(text_of("request"), NULL, 10));
        if (strncmp(text_of("operator"), "describe\"", 9) == 0)
            send(DESCRIPTION, NULL, 0, NULL, 0);
        else if (strncmp(text_of("operator"), "conv2d\"", 7) == 0)
            conv2d();
        else
            max_pool2d();
        free(header);
        free(body);
    }
    return 0;
}
