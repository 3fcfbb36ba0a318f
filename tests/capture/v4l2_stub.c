/* Cameras without hardware, for tests: answers the ioctls of Video4Linux as drivers do.
 *
 * Preloaded (ld.so --preload), it stands between a program and the C library's ioctl(). The nodes are plain
 * files in the folder $V4L2_STUB: video0 is a camera (YUYV and MJPG), video1 its node for metadata, video2
 * scales to any size, video3 is a sensor on CSI. Buffers are parts of the file itself, so that mmap() needs
 * no help. Files beside the nodes switch faults on: "busy", "gone", "wedged". "frame.jpg" is what MJPG shows.
 *
 * It is compiled against linux/videodev2.h, which makes it a check of the layouts, too.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define BUFFERS 4
#define BUFFER_BYTES (640 * 480 * 2)
#define COUNT(a) (sizeof(a) / sizeof *(a))

static struct { __u32 code, width, height, fps, queued, taken; } now = {V4L2_PIX_FMT_YUYV, 640, 480, 30, 0, 0};
static const __u32 sizes[][2] = {{640, 480}, {320, 240}};
static const __u32 rates[] = {30, 15};

static int fail(int reason) { errno = reason; return -1; }

/* The number of the node behind fd, or -1. */
static int node_of(int fd) {
    const char *folder = getenv("V4L2_STUB");
    char link[64], path[4096], start[4096];
    int node;
    if (!folder) return -1;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return -1;
    path[length] = 0;
    snprintf(start, sizeof start, "%s/video", folder);
    if (strncmp(path, start, strlen(start)) || sscanf(path + strlen(start), "%d", &node) != 1) return -1;
    return node;
}

static int is(const char *fault) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", getenv("V4L2_STUB"), fault);
    return access(path, F_OK) == 0;
}

static void describe(struct v4l2_format *format) {
    struct v4l2_pix_format *pix = &format->fmt.pix;
    int known = 0;
    for (size_t i = 0; i < COUNT(sizes); i++) known |= pix->width == sizes[i][0] && pix->height == sizes[i][1];
    if (!known) pix->width = 640, pix->height = 480;
    if (pix->pixelformat != V4L2_PIX_FMT_MJPEG) pix->pixelformat = V4L2_PIX_FMT_YUYV;
    pix->field = V4L2_FIELD_NONE;
    pix->bytesperline = pix->pixelformat == V4L2_PIX_FMT_YUYV ? pix->width * 2 : 0;
    pix->sizeimage = pix->width * pix->height * 2;
    pix->colorspace = V4L2_COLORSPACE_SRGB;
}

/* A picture whose brightness rises with each: into the buffer's part of the file. */
static __u32 draw(int fd, __u32 index) {
    static unsigned char pixels[BUFFER_BYTES];
    __u32 used = now.width * now.height * 2;
    if (now.code == V4L2_PIX_FMT_MJPEG) {
        char path[4096];
        snprintf(path, sizeof path, "%s/frame.jpg", getenv("V4L2_STUB"));
        int file = open(path, O_RDONLY);
        used = file < 0 ? 0 : (__u32)read(file, pixels, sizeof pixels);
        if (file >= 0) close(file);
    } else {
        for (__u32 at = 0; at < used; at += 2) pixels[at] = 16 + now.taken % 200, pixels[at + 1] = 128;
    }
    if (pwrite(fd, pixels, used, (off_t)index * BUFFER_BYTES) < 0) return 0;
    return used;
}

static int enumerate_format(int node, struct v4l2_fmtdesc *entry) {
    static const struct { __u32 code; const char *text; } formats[] = {
        {V4L2_PIX_FMT_MJPEG, "Motion-JPEG"}, {V4L2_PIX_FMT_YUYV, "YUYV 4:2:2"},
    };
    __u32 first = node == 2;
    if (entry->type != V4L2_BUF_TYPE_VIDEO_CAPTURE) return fail(EINVAL);
    if (node == 3 && !entry->index) {
        entry->pixelformat = V4L2_PIX_FMT_SRGGB10;
        strcpy((char *)entry->description, "10-bit Bayer RGRG/GBGB");
        return 0;
    }
    if (node == 3 || entry->index + first >= COUNT(formats)) return fail(EINVAL);
    entry->pixelformat = formats[entry->index + first].code;
    strcpy((char *)entry->description, formats[entry->index + first].text);
    return 0;
}

static int enumerate_size(int node, struct v4l2_frmsizeenum *entry) {
    if (node == 2) {
        if (entry->index) return fail(EINVAL);
        entry->type = V4L2_FRMSIZE_TYPE_STEPWISE;
        entry->stepwise = (struct v4l2_frmsize_stepwise){32, 1920, 2, 24, 1080, 4};
        return 0;
    }
    if (entry->index >= COUNT(sizes)) return fail(EINVAL);
    entry->type = V4L2_FRMSIZE_TYPE_DISCRETE;
    entry->discrete = (struct v4l2_frmsize_discrete){sizes[entry->index][0], sizes[entry->index][1]};
    return 0;
}

static int enumerate_interval(int node, struct v4l2_frmivalenum *entry) {
    if (node == 2) {
        if (entry->index || entry->width != 1920 || entry->height != 1080) return fail(EINVAL);
        entry->type = V4L2_FRMIVAL_TYPE_CONTINUOUS;
        entry->stepwise = (struct v4l2_frmival_stepwise){{1, 60}, {1, 5}, {1, 1}};
        return 0;
    }
    if (entry->index >= COUNT(rates)) return fail(EINVAL);
    entry->type = V4L2_FRMIVAL_TYPE_DISCRETE;
    entry->discrete = (struct v4l2_fract){1001, rates[entry->index] * 1000};
    return 0;
}

static int take(int fd, struct v4l2_buffer *buffer) {
    struct timespec pause = {0, 1000000000 / now.fps}, at;
    while (is("wedged")) sleep(1);
    if (is("gone")) return fail(ENODEV);
    if (!now.queued) return fail(EAGAIN);
    nanosleep(&pause, NULL);
    buffer->index = now.taken++ % BUFFERS;
    while (!(now.queued >> buffer->index & 1)) buffer->index = (buffer->index + 1) % BUFFERS;
    now.queued &= ~(1u << buffer->index);
    buffer->bytesused = draw(fd, buffer->index);
    buffer->length = BUFFER_BYTES;
    buffer->m.offset = buffer->index * BUFFER_BYTES;
    clock_gettime(CLOCK_MONOTONIC, &at);
    buffer->timestamp.tv_sec = at.tv_sec;
    buffer->timestamp.tv_usec = at.tv_nsec / 1000;
    buffer->flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
    return 0;
}

static int answer(int fd, int node, unsigned long request, void *data) {
    struct v4l2_capability *able = data;
    struct v4l2_requestbuffers *wanted = data;
    struct v4l2_buffer *buffer = data;
    struct v4l2_format *format = data;
    struct v4l2_streamparm *parm = data;
    if (is("gone")) return fail(ENODEV);
    switch (request) {
    case VIDIOC_QUERYCAP:
        memset(able, 0, sizeof *able);
        strcpy((char *)able->driver, "stub");
        snprintf((char *)able->card, sizeof able->card, "Stub Camera %d", node);
        strcpy((char *)able->bus_info, "platform:stub");
        able->device_caps = node == 1 ? V4L2_CAP_META_CAPTURE : V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        /* Of the whole device: the metadata node, too, says here that the device gives pictures. */
        able->capabilities = V4L2_CAP_DEVICE_CAPS | V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING | able->device_caps;
        return 0;
    case VIDIOC_ENUM_FMT: return enumerate_format(node, data);
    case VIDIOC_ENUM_FRAMESIZES: return enumerate_size(node, data);
    case VIDIOC_ENUM_FRAMEINTERVALS: return enumerate_interval(node, data);
    case VIDIOC_G_FMT:
        format->fmt.pix.width = now.width, format->fmt.pix.height = now.height;
        format->fmt.pix.pixelformat = now.code;
        describe(format);
        return 0;
    case VIDIOC_TRY_FMT: describe(format); return 0;
    case VIDIOC_S_FMT:
        if (is("busy")) return fail(EBUSY);
        describe(format);
        now.width = format->fmt.pix.width, now.height = format->fmt.pix.height;
        now.code = format->fmt.pix.pixelformat;
        return 0;
    case VIDIOC_S_PARM:
        now.fps = parm->parm.capture.timeperframe.denominator == 15 ? 15 : 30; /* fallthrough */
    case VIDIOC_G_PARM:
        parm->parm.capture.capability = V4L2_CAP_TIMEPERFRAME;
        parm->parm.capture.timeperframe = (struct v4l2_fract){1, now.fps};
        return 0;
    case VIDIOC_REQBUFS:
        if (is("busy")) return fail(EBUSY);
        if (wanted->count) wanted->count = BUFFERS;
        now.queued = 0;
        return 0;
    case VIDIOC_QUERYBUF:
        if (buffer->index >= BUFFERS) return fail(EINVAL);
        buffer->length = BUFFER_BYTES;
        buffer->m.offset = buffer->index * BUFFER_BYTES;
        return 0;
    case VIDIOC_QBUF: now.queued |= 1u << buffer->index; return 0;
    case VIDIOC_DQBUF: return take(fd, buffer);
    case VIDIOC_STREAMON: return 0;
    case VIDIOC_STREAMOFF: now.queued = 0; return 0;
    default: return fail(EINVAL);
    }
}

int ioctl(int fd, unsigned long request, ...) {
    va_list arguments;
    va_start(arguments, request);
    void *data = va_arg(arguments, void *);
    va_end(arguments);
    int node = _IOC_TYPE(request) == 'V' ? node_of(fd) : -1;
    return node < 0 ? (int)syscall(SYS_ioctl, fd, request, data) : answer(fd, node, (unsigned int)request, data);
}
