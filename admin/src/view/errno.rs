//! Names and texts of error numbers, as stored in state keys: those of Linux, and those of the log scanner.
//!
//! Linux has two names for some numbers; the one printed by the original is the one listed here.
//!
//! Manual: "The State of MARS" (replay codes).

/// (number, name, text).
type Entry = (u32, &'static str, &'static str);

#[rustfmt::skip]
const ERRORS: &[Entry] = &[
    (1, "EPERM", "Operation not permitted"),
    (2, "ENOENT", "No such file or directory"),
    (3, "ESRCH", "No such process"),
    (4, "EINTR", "Interrupted system call"),
    (5, "EIO", "Input/output error"),
    (6, "ENXIO", "No such device or address"),
    (7, "E2BIG", "Argument list too long"),
    (8, "ENOEXEC", "Exec format error"),
    (9, "EBADF", "Bad file descriptor"),
    (10, "ECHILD", "No child processes"),
    (11, "EWOULDBLOCK", "Resource temporarily unavailable"),
    (12, "ENOMEM", "Cannot allocate memory"),
    (13, "EACCES", "Permission denied"),
    (14, "EFAULT", "Bad address"),
    (15, "ENOTBLK", "Block device required"),
    (16, "EBUSY", "Device or resource busy"),
    (17, "EEXIST", "File exists"),
    (18, "EXDEV", "Invalid cross-device link"),
    (19, "ENODEV", "No such device"),
    (20, "ENOTDIR", "Not a directory"),
    (21, "EISDIR", "Is a directory"),
    (22, "EINVAL", "Invalid argument"),
    (23, "ENFILE", "Too many open files in system"),
    (24, "EMFILE", "Too many open files"),
    (25, "ENOTTY", "Inappropriate ioctl for device"),
    (26, "ETXTBSY", "Text file busy"),
    (27, "EFBIG", "File too large"),
    (28, "ENOSPC", "No space left on device"),
    (29, "ESPIPE", "Illegal seek"),
    (30, "EROFS", "Read-only file system"),
    (31, "EMLINK", "Too many links"),
    (32, "EPIPE", "Broken pipe"),
    (33, "EDOM", "Numerical argument out of domain"),
    (34, "ERANGE", "Numerical result out of range"),
    (35, "EDEADLK", "Resource deadlock avoided"),
    (36, "ENAMETOOLONG", "File name too long"),
    (37, "ENOLCK", "No locks available"),
    (38, "ENOSYS", "Function not implemented"),
    (39, "ENOTEMPTY", "Directory not empty"),
    (40, "ELOOP", "Too many levels of symbolic links"),
    (42, "ENOMSG", "No message of desired type"),
    (43, "EIDRM", "Identifier removed"),
    (44, "ECHRNG", "Channel number out of range"),
    (45, "EL2NSYNC", "Level 2 not synchronized"),
    (46, "EL3HLT", "Level 3 halted"),
    (47, "EL3RST", "Level 3 reset"),
    (48, "ELNRNG", "Link number out of range"),
    (49, "EUNATCH", "Protocol driver not attached"),
    (50, "ENOCSI", "No CSI structure available"),
    (51, "EL2HLT", "Level 2 halted"),
    (52, "EBADE", "Invalid exchange"),
    (53, "EBADR", "Invalid request descriptor"),
    (54, "EXFULL", "Exchange full"),
    (55, "ENOANO", "No anode"),
    (56, "EBADRQC", "Invalid request code"),
    (57, "EBADSLT", "Invalid slot"),
    (59, "EBFONT", "Bad font file format"),
    (60, "ENOSTR", "Device not a stream"),
    (61, "ENODATA", "No data available"),
    (62, "ETIME", "Timer expired"),
    (63, "ENOSR", "Out of streams resources"),
    (64, "ENONET", "Machine is not on the network"),
    (65, "ENOPKG", "Package not installed"),
    (66, "EREMOTE", "Object is remote"),
    (67, "ENOLINK", "Link has been severed"),
    (68, "EADV", "Advertise error"),
    (69, "ESRMNT", "Srmount error"),
    (70, "ECOMM", "Communication error on send"),
    (71, "EPROTO", "Protocol error"),
    (72, "EMULTIHOP", "Multihop attempted"),
    (73, "EDOTDOT", "RFS specific error"),
    (74, "EBADMSG", "Bad message"),
    (75, "EOVERFLOW", "Value too large for defined data type"),
    (76, "ENOTUNIQ", "Name not unique on network"),
    (77, "EBADFD", "File descriptor in bad state"),
    (78, "EREMCHG", "Remote address changed"),
    (79, "ELIBACC", "Can not access a needed shared library"),
    (80, "ELIBBAD", "Accessing a corrupted shared library"),
    (81, "ELIBSCN", ".lib section in a.out corrupted"),
    (82, "ELIBMAX", "Attempting to link in too many shared libraries"),
    (83, "ELIBEXEC", "Cannot exec a shared library directly"),
    (84, "EILSEQ", "Invalid or incomplete multibyte or wide character"),
    (85, "ERESTART", "Interrupted system call should be restarted"),
    (86, "ESTRPIPE", "Streams pipe error"),
    (87, "EUSERS", "Too many users"),
    (88, "ENOTSOCK", "Socket operation on non-socket"),
    (89, "EDESTADDRREQ", "Destination address required"),
    (90, "EMSGSIZE", "Message too long"),
    (91, "EPROTOTYPE", "Protocol wrong type for socket"),
    (92, "ENOPROTOOPT", "Protocol not available"),
    (93, "EPROTONOSUPPORT", "Protocol not supported"),
    (94, "ESOCKTNOSUPPORT", "Socket type not supported"),
    (95, "ENOTSUP", "Operation not supported"),
    (96, "EPFNOSUPPORT", "Protocol family not supported"),
    (97, "EAFNOSUPPORT", "Address family not supported by protocol"),
    (98, "EADDRINUSE", "Address already in use"),
    (99, "EADDRNOTAVAIL", "Cannot assign requested address"),
    (100, "ENETDOWN", "Network is down"),
    (101, "ENETUNREACH", "Network is unreachable"),
    (102, "ENETRESET", "Network dropped connection on reset"),
    (103, "ECONNABORTED", "Software caused connection abort"),
    (104, "ECONNRESET", "Connection reset by peer"),
    (105, "ENOBUFS", "No buffer space available"),
    (106, "EISCONN", "Transport endpoint is already connected"),
    (107, "ENOTCONN", "Transport endpoint is not connected"),
    (108, "ESHUTDOWN", "Cannot send after transport endpoint shutdown"),
    (109, "ETOOMANYREFS", "Too many references: cannot splice"),
    (110, "ETIMEDOUT", "Connection timed out"),
    (111, "ECONNREFUSED", "Connection refused"),
    (112, "EHOSTDOWN", "Host is down"),
    (113, "EHOSTUNREACH", "No route to host"),
    (114, "EALREADY", "Operation already in progress"),
    (115, "EINPROGRESS", "Operation now in progress"),
    (116, "ESTALE", "Stale file handle"),
    (117, "EUCLEAN", "Structure needs cleaning"),
    (118, "ENOTNAM", "Not a XENIX named type file"),
    (119, "ENAVAIL", "No XENIX semaphores available"),
    (120, "EISNAM", "Is a named type file"),
    (121, "EREMOTEIO", "Remote I/O error"),
    (122, "EDQUOT", "Disk quota exceeded"),
    (123, "ENOMEDIUM", "No medium found"),
    (124, "EMEDIUMTYPE", "Wrong medium type"),
    (125, "ECANCELED", "Operation canceled"),
    (126, "ENOKEY", "Required key not available"),
    (127, "EKEYEXPIRED", "Key has expired"),
    (128, "EKEYREVOKED", "Key has been revoked"),
    (129, "EKEYREJECTED", "Key was rejected by service"),
    (130, "EOWNERDEAD", "Owner died"),
    (131, "ENOTRECOVERABLE", "State not recoverable"),
    (132, "ERFKILL", "Operation not possible due to RF-kill"),
    (133, "EHWPOISON", "Memory page has hardware error"),
    (10000, "MARS_ERR_NOSCAN", "Logfile scan was not possible"),
    (10001, "MARS_ERR_SCAN_TIMEOUT", "Logfile scan timsouted"),
    (10002, "MARS_ERR_SCAN_HOLE", "Detected a hole in logfile"),
    (10003, "MARS_ERR_SCAN_INVAL", "Record marked as invalid"),
    (10004, "MARS_ERR_SCAN_ZERO", "Zero-length record encountered"),
    (10005, "MARS_ERR_SCAN_NEGATIVE", "Negative record length"),
    (10006, "MARS_ERR_SCAN_BADLEN", "Mismatch in record length"),
    (10007, "MARS_ERR_SCAN_ADVANCE", "Positional advance too small"),
    (10008, "MARS_ERR_SCAN_RESTLEN", "Record restlen not sufficient"),
    (10009, "MARS_ERR_SCAN_INCOMPL", "Record explicitly marked as incomplete"),
    (10010, "MARS_ERR_SCAN_SEQ_FW", "Illegal record sequence skip forward"),
    (10011, "MARS_ERR_SCAN_SEQ_BW", "Record sequence skip backwards"),
    (10012, "MARS_ERR_SCAN_SIZE", "Internal size mismatch"),
    (10020, "MARS_ERR_MAGIC_BAD", "Bad magic "),
    (10021, "MARS_ERR_MAGIC_REPEATED", "Bad magic has repeated pattern"),
    (10029, "MARS_ERR_SCAN_GARBAGE", "Scanning found garbage"),
    (10100, "MARS_ERR_CRC_FLAGS", "Bad CRC flags found"),
    (10101, "MARS_ERR_CRC_MISMATCH", "CRC mismatch found"),
    (10150, "MARS_ERR_DECOMPR_FAIL", "Decompression failure"),
    (10151, "MARS_ERR_DECOMPR_TOOBIG", "Cannot handle decompression length"),
    (10152, "MARS_ERR_DECOMPR_BADLEN", "Implausible decompression length"),
];

/// Makes a comma-separated list of error codes readable: every number becomes `[NAME:text]` whatever its sign, with `_`
/// for blanks; `0` stays; a byte value `0x…` becomes `,HEXCODE=0x…`.
pub fn errno_text(codes: &str) -> String {
    codes.split(',').map(|code| one(code.trim())).collect()
}

fn one(code: &str) -> String {
    if code.starts_with("0x") {
        return format!(",HEXCODE={code}");
    }
    match code.trim_start_matches(['-', '+']).parse::<u32>() {
        Ok(0) => "0".to_owned(),
        Ok(number) => format!("[{}]", name_and_text(number)),
        Err(_) => String::new(),
    }
}

fn name_and_text(number: u32) -> String {
    match ERRORS.binary_search_by_key(&number, |(number, ..)| *number) {
        Ok(at) => format!("{}:{}", ERRORS[at].1, ERRORS[at].2.replace(' ', "_")),
        Err(_) => format!("Unknown_error_{number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_a_list_is_named() {
        assert_eq!(
            errno_text("-85,-10101,0x2a"),
            "[ERESTART:Interrupted_system_call_should_be_restarted][MARS_ERR_CRC_MISMATCH:CRC_mismatch_found],HEXCODE=0x2a"
        );
        assert_eq!(errno_text("0"), "0");
        assert_eq!(errno_text("-99999"), "[Unknown_error_99999]");
    }

    #[test]
    fn the_table_is_sorted_so_that_every_entry_is_found() {
        assert!(ERRORS.is_sorted_by_key(|(number, ..)| *number));
    }
}
