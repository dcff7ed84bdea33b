#include "agent/transport/uv/tcp_peer.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

namespace reprise {
namespace {

// Columns of /proc/<pid>/net/tcp.
constexpr size_t kLocalColumn = 1;
constexpr size_t kRemoteColumn = 2;
constexpr size_t kInodeColumn = 9;

// Returns an address as the kernel prints it there, with each word in this
// machine's byte order. Empty when it is not an Internet address.
std::string ToProcForm(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) {
    const auto& ipv4 = reinterpret_cast<const sockaddr_in&>(address);
    return absl::StrFormat("%08X:%04X", ipv4.sin_addr.s_addr,
                           ntohs(ipv4.sin_port));
  }
  if (address.ss_family != AF_INET6) return "";
  const auto& ipv6 = reinterpret_cast<const sockaddr_in6&>(address);
  std::string text;
  for (const uint32_t word : ipv6.sin6_addr.s6_addr32) {
    absl::StrAppendFormat(&text, "%08X", word);
  }
  absl::StrAppendFormat(&text, ":%04X", ntohs(ipv6.sin6_port));
  return text;
}

// Returns the inode of the socket at the other end, as the network namespace of
// process `pid` lists it; empty when there is none.
std::string FindInode(pid_t pid, const TcpEnds& ends) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/net/", ends.table));
  std::string line;
  while (std::getline(file, line)) {
    const std::vector<std::string> columns =
        absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (columns.size() > kInodeColumn && columns[kLocalColumn] == ends.theirs &&
        columns[kRemoteColumn] == ends.ours) {
      return columns[kInodeColumn];
    }
  }
  return "";
}

// Returns what the symbolic link points to; empty when it cannot be read.
std::string ReadLink(const std::string& path) {
  char target[64];
  const ssize_t size = readlink(path.c_str(), target, sizeof(target));
  if (size <= 0) return "";
  return std::string(target, static_cast<size_t>(size));
}

}  // namespace

std::optional<TcpEnds> TcpEndsOf(int fd) {
  sockaddr_storage ours = {};
  sockaddr_storage theirs = {};
  socklen_t our_size = sizeof(ours);
  socklen_t their_size = sizeof(theirs);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&ours), &our_size) != 0 ||
      getpeername(fd, reinterpret_cast<sockaddr*>(&theirs), &their_size) != 0) {
    return std::nullopt;
  }
  TcpEnds ends = {ToProcForm(ours), ToProcForm(theirs),
                  ours.ss_family == AF_INET ? "tcp" : "tcp6"};
  if (ends.ours.empty() || ends.theirs.empty()) return std::nullopt;
  return ends;
}

bool TcpPeer::IsHeldBy(pid_t pid, const TcpEnds& ends) {
  if (pid == pid_) return ReadLink(link_) == target_;
  return Find(pid, ends);
}

bool TcpPeer::Find(pid_t pid, const TcpEnds& ends) {
  const std::string inode = FindInode(pid, ends);
  if (inode.empty() || inode == "0") return false;
  const std::string target = absl::StrCat("socket:[", inode, "]");
  const std::string folder = absl::StrCat("/proc/", pid, "/fd");
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(opendir(folder.c_str()),
                                                    &closedir);
  if (listing == nullptr) return false;
  while (const dirent* const entry = readdir(listing.get())) {
    std::string link = absl::StrCat(folder, "/", entry->d_name);
    if (ReadLink(link) != target) continue;
    pid_ = pid;
    link_ = std::move(link);
    target_ = target;
    return true;
  }
  return false;
}

}  // namespace reprise
