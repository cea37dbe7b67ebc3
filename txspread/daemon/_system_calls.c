/* The system calls of a turn, without the objects that Python's own bindings make.

   Made where there is a C compiler (setup.py); what it does is described, and done
   without it, in system_calls.py.  Nothing in here blocks but wait(), which lets go
   of the interpreter's lock meanwhile if there is anybody else to take it. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define MOST_EVENTS 512
#define SLOT 65536 /* no datagram or train is longer */
#define GRO 104     /* UDP_GRO, which older headers lack */

static int
descriptor_of(PyObject *number)
{
    long value = PyLong_AsLong(number);
    if (value == -1 && PyErr_Occurred())
        return -1;
    if (value < 0 || value > INT_MAX) {
        PyErr_SetString(PyExc_ValueError, "not a descriptor");
        return -1;
    }
    return (int)value;
}

static int
count_arguments(const char *name, Py_ssize_t given, Py_ssize_t wanted)
{
    if (given == wanted)
        return 0;
    PyErr_Format(PyExc_TypeError, "%s() takes %zd arguments, not %zd", name, wanted, given);
    return -1;
}

/* Whether another thread may want to run Python code: to get the lock back costs some
   microseconds, right after a wake-up, when no cache is warm.  A thread of a C library
   that calls Python for the first time has to wait for the end of this wait. */
static int
has_other_threads(void)
{
    PyInterpreterState *interpreter = PyInterpreterState_Head();
    if (interpreter == NULL || PyInterpreterState_Next(interpreter) != NULL)
        return 1;
    PyThreadState *thread = PyInterpreterState_ThreadHead(interpreter);
    return thread == NULL || PyThreadState_Next(thread) != NULL;
}

static PyObject *
wait_for_events(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    struct epoll_event events[MOST_EVENTS];
    if (count_arguments("wait", count, 2) < 0)
        return NULL;
    int epoll = descriptor_of(arguments[0]);
    if (epoll < 0)
        return NULL;
    long milliseconds = PyLong_AsLong(arguments[1]);
    if (milliseconds == -1 && PyErr_Occurred())
        return NULL;
    if (milliseconds < 0 || milliseconds > 60000) {
        PyErr_SetString(PyExc_ValueError, "wait of less than nothing or more than a minute");
        return NULL;
    }
    int found;
    if (milliseconds == 0 || !has_other_threads()) {
        found = epoll_wait(epoll, events, MOST_EVENTS, (int)milliseconds);
    } else {
        Py_BEGIN_ALLOW_THREADS
        found = epoll_wait(epoll, events, MOST_EVENTS, (int)milliseconds);
        Py_END_ALLOW_THREADS
    }
    if (found < 0) {
        if (errno != EINTR)
            return PyErr_SetFromErrno(PyExc_OSError);
        if (PyErr_CheckSignals() < 0)
            return NULL;
        found = 0;
    }
    PyObject *list = PyList_New(found);
    if (list == NULL)
        return NULL;
    for (int index = 0; index < found; index++) {
        PyObject *pair = PyTuple_New(2);
        if (pair == NULL) {
            Py_DECREF(list);
            return NULL;
        }
        PyList_SET_ITEM(list, index, pair);
        PyObject *descriptor = PyLong_FromLong(events[index].data.fd);
        PyObject *mask = PyLong_FromUnsignedLong(events[index].events);
        if (descriptor == NULL || mask == NULL) {
            Py_XDECREF(descriptor);
            Py_XDECREF(mask);
            Py_DECREF(list);
            return NULL;
        }
        PyTuple_SET_ITEM(pair, 0, descriptor);
        PyTuple_SET_ITEM(pair, 1, mask);
    }
    return list;
}

/* Append one datagram, copied, or one train, as the part of the space where it lies,
   with the size at which to cut it; 0, or -1 with an exception set. */
static int
append(PyObject *list, PyObject *space, const char *data, Py_ssize_t start, Py_ssize_t size,
       int segment)
{
    PyObject *found;
    if (segment <= 0 || segment >= size) {
        segment = 0;
        found = PyBytes_FromStringAndSize(data + start, size);
    } else {
        PyObject *from = PyLong_FromSsize_t(start);
        PyObject *to = PyLong_FromSsize_t(start + size);
        PyObject *range = from != NULL && to != NULL ? PySlice_New(from, to, NULL) : NULL;
        Py_XDECREF(from);
        Py_XDECREF(to);
        if (range == NULL)
            return -1;
        found = PyObject_GetItem(space, range);
        Py_DECREF(range);
    }
    PyObject *cut_at = PyLong_FromLong(segment);
    PyObject *pair = PyTuple_New(2);
    if (found == NULL || cut_at == NULL || pair == NULL) {
        Py_XDECREF(found);
        Py_XDECREF(cut_at);
        Py_XDECREF(pair);
        return -1;
    }
    PyTuple_SET_ITEM(pair, 0, found);
    PyTuple_SET_ITEM(pair, 1, cut_at);
    int failed = PyList_Append(list, pair);
    Py_DECREF(pair);
    return failed;
}

static PyObject *
receive(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    if (count_arguments("receive", count, 3) < 0)
        return NULL;
    int descriptor = descriptor_of(arguments[0]);
    if (descriptor < 0)
        return NULL;
    long most = PyLong_AsLong(arguments[2]);
    if (most == -1 && PyErr_Occurred())
        return NULL;
    Py_buffer space;
    if (PyObject_GetBuffer(arguments[1], &space, PyBUF_WRITABLE) < 0)
        return NULL;
    if (most > space.len / SLOT)
        most = (long)(space.len / SLOT);
    PyObject *list = PyList_New(0);
    for (long reads = 0; list != NULL && reads < most; reads++) {
        union {
            char bytes[CMSG_SPACE(sizeof(int))];
            struct cmsghdr aligned;
        } control;
        struct iovec vector = {(char *)space.buf + reads * SLOT, SLOT};
        struct msghdr message;
        memset(&message, 0, sizeof message);
        message.msg_iov = &vector;
        message.msg_iovlen = 1;
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        ssize_t size = recvmsg(descriptor, &message, MSG_DONTWAIT);
        if (size < 0) {
            /* An error behind datagrams is over; these count. */
            if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR && reads == 0) {
                Py_CLEAR(list);
                PyErr_SetFromErrno(PyExc_OSError);
            }
            break;
        }
        int segment = 0;
        struct cmsghdr *first = CMSG_FIRSTHDR(&message);
        if (first != NULL && first->cmsg_level == IPPROTO_UDP && first->cmsg_type == GRO &&
            first->cmsg_len >= CMSG_LEN(sizeof segment))
            memcpy(&segment, CMSG_DATA(first), sizeof segment);
        if (append(list, arguments[1], space.buf, reads * SLOT, size, segment) < 0)
            Py_CLEAR(list);
    }
    PyBuffer_Release(&space);
    return list;
}

static PyObject *
send_bytes(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    if (count_arguments("send", count, 2) < 0)
        return NULL;
    int descriptor = descriptor_of(arguments[0]);
    if (descriptor < 0)
        return NULL;
    Py_buffer data;
    if (PyObject_GetBuffer(arguments[1], &data, PyBUF_SIMPLE) < 0)
        return NULL;
    ssize_t sent = send(descriptor, data.buf, (size_t)data.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    int error = errno;
    PyBuffer_Release(&data);
    if (sent < 0) {
        if (error == EAGAIN || error == EWOULDBLOCK || error == EINTR)
            return PyLong_FromLong(-1);
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyLong_FromSsize_t(sent);
}

static PyMethodDef functions[] = {
    {"wait", (PyCFunction)(void (*)(void))wait_for_events, METH_FASTCALL, NULL},
    {"receive", (PyCFunction)(void (*)(void))receive, METH_FASTCALL, NULL},
    {"send", (PyCFunction)(void (*)(void))send_bytes, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "txspread.daemon._system_calls",
    .m_doc = "See txspread.daemon.system_calls.",
    .m_size = 0,
    .m_methods = functions,
};

PyMODINIT_FUNC
PyInit__system_calls(void)
{
    return PyModule_Create(&definition);
}
