// Peers that say what is not so: it costs them their connection, and nobody
// anything else.

#include <functional>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "agent/transport/cuda/direct_claims.h"
#include "agent/transport/cuda/host.h"
#include "agent/transport/cuda/wire.h"
#include "gtest/gtest.h"
#include "tests/unit/transport/cuda/raw_peer.h"

namespace reprise {
namespace {

// Receives 100 bytes from a peer that `lie` plays, and expects an error.
void ExpectRefused(Kind kind, const std::function<void(Ends&, RawPeer&)>& lie) {
  Ends ends(kind);
  {
    RawPeer peer(ends);
    Tensor target(ends.near_driver, 100, kind);
    Result received = ReceiveTensor(*peer.channel, target);
    lie(ends, peer);
    const tensorpipe::Error error = Await(received);
    EXPECT_TRUE(error);
    EXPECT_FALSE(error.isOfType<tensorpipe::SystemError>()) << error.what();
  }
  EXPECT_EQ(ends.Finish(), "");
}

void ExpectRefusedBytes(Kind kind, size_t connection, const std::string& hex) {
  ExpectRefused(kind, [&](Ends&, RawPeer& peer) {
    peer.Write(connection, absl::HexStringToBytes(hex));
  });
}

TEST(CudaHostileTest, Xth) {
  // Memory that nobody offered, and frames of the wrong kind.
  ExpectRefused(Kind::kXth, [](Ends&, RawPeer& peer) {
    static char secret[100];
    peer.Write(0, EncodeObject(XthDescriptor{
                      1, reinterpret_cast<uint64_t>(secret), 0, 0}));
  });
  for (const char* hex : {"", "00", "b904", "b903000000", "b9048300"}) {
    ExpectRefusedBytes(Kind::kXth, 0, hex);
  }
  // Another length than was offered.
  Ends ends(Kind::kXth);
  ends.Connect();
  Tensor source(ends.near_driver, 50, ends.kind);
  Tensor target(ends.far_driver, 100, ends.kind);
  Result sent = SendTensor(*ends.link->near, source);
  Result received = ReceiveTensor(*ends.link->far, target);
  EXPECT_TRUE(Await(received));
  EXPECT_TRUE(Await(sent));
}

// What a peer with memory of that size tells of its outbox.
IpcOutboxInfo MakeOutbox(FakeDriver& driver, void* memory) {
  IpcOutboxInfo info;
  info.process = "4_effffffc_1002";
  info.memory_handle = *driver.ExportMemory(0, memory);
  for (int i = 0; i < 4; ++i) {
    const GpuEvent event = *driver.CreateEvent(0, /*is_shared=*/true);
    info.event_handles.push_back(*driver.ExportEvent(event));
    // The handle is enough; the event itself is gone.
    driver.DestroyEvent(event);
  }
  return info;
}

TEST(CudaHostileTest, Ipc) {
  for (const char* hex :
       {"", "b9", "b9030000be", "b903000abe", "b903ff00be",
        "b90340"
        "00be",
        "b9030000b903bd00bd00ba02bd810001", "b9030000b903bd00bd40"}) {
    ExpectRefusedBytes(Kind::kIpc, 0, hex);
  }
  const auto tell = [](std::function<void(IpcDescriptor&)> change,
                       size_t num_bytes = size_t{32} << 20) {
    ExpectRefused(Kind::kIpc, [&](Ends& ends, RawPeer& peer) {
      void* const memory = *ends.far_driver.Allocate(0, num_bytes);
      IpcDescriptor descriptor;
      descriptor.outbox = MakeOutbox(ends.far_driver, memory);
      change(descriptor);
      peer.Write(0, EncodeObject(descriptor));
      // Until it was refused.
      peer.Read(0);
      ends.far_driver.Free(0, memory);
    });
  };
  tell([](IpcDescriptor&) {});  // its events are gone
  tell([](IpcDescriptor&) {}, size_t{1} << 20);
  tell([](IpcDescriptor& descriptor) { descriptor.slot = 4; });
  tell([](IpcDescriptor& descriptor) { descriptor.device = -1; });
  tell([](IpcDescriptor& descriptor) { descriptor.device = 64; });
  tell([](IpcDescriptor& d) { d.outbox->memory_handle.resize(63); });
  tell([](IpcDescriptor& d) { d.outbox->memory_handle.assign(64, 'x'); });
  tell([](IpcDescriptor& d) { d.outbox->event_handles.pop_back(); });
  tell([](IpcDescriptor& d) { d.outbox->event_handles[3] = "short"; });
  tell([](IpcDescriptor& d) { d.outbox->event_handles.emplace_back(64, 'x'); });
  tell([](IpcDescriptor& d) { d.outbox->process.resize(5000); });
}

TEST(CudaHostileTest, IpcDescribesItsOutboxTwice) {
  // First what a sender of ours says, then that once more.
  Ends ends(Kind::kIpc);
  Ends other(Kind::kIpc);
  {
    RawPeer receiver(ends);
    auto [near_ends, far_ends] = ends.wires.Connect(2);
    const auto sender = ends.far->createChannel(
        std::move(near_ends), tensorpipe::channel::Endpoint::kConnect);
    Tensor source(ends.far_driver, 100, ends.kind);
    Tensor target(ends.near_driver, 100, ends.kind);
    source.Fill(1);
    Result sent = SendTensor(*sender, source);
    std::promise<std::string> frame;
    far_ends[0]->read(
        [&](const tensorpipe::Error&, const void* bytes, size_t size) {
          frame.set_value({static_cast<const char*>(bytes), size});
        });
    const std::string first = frame.get_future().get();
    Result received = ReceiveTensor(*receiver.channel, target);
    receiver.Write(0, first);
    EXPECT_FALSE(Await(received));
    EXPECT_TRUE(target.Has(1));
    Result again = ReceiveTensor(*receiver.channel, target);
    receiver.Write(0, first);
    EXPECT_TRUE(Await(again));
    EXPECT_FALSE(Await(sent));
  }
  EXPECT_EQ(ends.Finish(), "");
}

TEST(CudaHostileTest, Basic) {
  ExpectRefusedBytes(Kind::kBasic, 1, "00");
  ExpectRefused(Kind::kBasic, [](Ends&, RawPeer& peer) {
    peer.WriteEmpty(1);
    peer.Write(0, "99 bytes are too few");
  });
}

GpuHello HostHello() {
  GpuHello hello;
  hello.version = GpuHello::kHost;
  hello.slot_bytes = kCudaHostSlots.chunk_bytes;
  hello.num_slots = kCudaHostSlots.number;
  return hello;
}

TEST(CudaHostileTest, Host) {
  const auto offer = [](HostOffer offer, const char* boot_id = "boot") {
    ExpectRefused(Kind::kHostShared, [&](Ends&, RawPeer& peer) {
      GpuHello hello = HostHello();
      SetText(hello.boot_id, boot_id);
      peer.WriteStructAt(2, hello);
      peer.WriteStructAt(1, offer);
      if (offer.kind == HostOffer::kSegment) peer.WriteStructAt(1, offer);
    });
  };
  offer({HostOffer::kShared, 0, 100, {}});    // without a segment
  offer({HostOffer::kStreamed, 0, 101, {}});  // too long
  offer({HostOffer::kStreamed, 0, 99, {}});   // too short
  offer({77, 0, 100, {}});
  offer({HostOffer::kSegment, 0, 0, "1/2/3"});  // twice
  ExpectRefusedBytes(Kind::kHostShared, 1, "00");
  ExpectRefusedBytes(Kind::kHostShared, 2, "00");
  ExpectRefused(Kind::kHostShared, [](Ends&, RawPeer& peer) {
    peer.WriteStructAt(2, GpuHello());  // of another version
  });
  ExpectRefused(Kind::kHostShared, [](Ends&, RawPeer& peer) {
    GpuHello hello = HostHello();
    ++hello.num_slots;
    peer.WriteStructAt(2, hello);
  });
  const auto reply = [](HostReply reply) {
    ExpectRefused(Kind::kHostShared, [&](Ends&, RawPeer& peer) {
      GpuHello hello = HostHello();
      peer.WriteStructAt(2, hello);
      peer.WriteStructAt(2, reply);
    });
  };
  reply({HostReply::kRead, 0});
  reply({HostReply::kRead, 8});
  reply({HostReply::kAttached, 0});
  reply({99, 0});
}

TEST(CudaHostileTest, HostUsesASlotThatIsBeingRead) {
  Ends ends(Kind::kHostShared);
  {
    RawPeer peer(ends);
    auto segment = *RealSharedMemory().Create(kCudaHostSlots.number *
                                              kCudaHostSlots.chunk_bytes);
    Tensor target(ends.near_driver, 100, ends.kind);
    Tensor other(ends.near_driver, 100, ends.kind);
    ends.near_driver.Hold(target.stream());
    Result received = ReceiveTensor(*peer.channel, target);
    Result received_later = ReceiveTensor(*peer.channel, other);
    GpuHello hello = HostHello();
    peer.WriteStructAt(2, hello);
    HostOffer offer = {HostOffer::kSegment, 0, 0, {}};
    SetText(offer.name, segment->name());
    peer.WriteStructAt(1, offer);
    peer.WriteStructAt(1, HostOffer{HostOffer::kShared, 5, 100, {}});
    EXPECT_FALSE(Await(received));
    peer.WriteStructAt(1, HostOffer{HostOffer::kShared, 5, 100, {}});
    EXPECT_TRUE(Await(received_later));
    ends.near_driver.Release(target.stream());
  }
  EXPECT_EQ(ends.Finish(), "");
}

TEST(CudaHostileTest, Direct) {
  const auto offer = [](std::function<void(DirectOffer&)> change,
                        bool is_claimable = true) {
    ExpectRefused(Kind::kDirect, [&](Ends& ends, RawPeer& peer) {
      GpuHello hello;
      hello.version = GpuHello::kDirect;
      peer.WriteStructAt(1, hello);
      void* const memory = *ends.far_driver.Allocate(0, 100);
      const GpuEvent event = *ends.far_driver.CreateEvent(0, true);
      const auto claims = *DirectClaims::Create(RealSharedMemory());
      if (is_claimable) claims->Offer(3);
      DirectOffer offer;
      offer.allocation = 1;
      offer.ticket = 3;
      offer.length = 100;
      SetText(offer.memory_handle, *ends.far_driver.ExportMemory(0, memory));
      SetText(offer.event_handle, *ends.far_driver.ExportEvent(event));
      SetText(offer.claims, claims->name());
      change(offer);
      peer.WriteStructAt(0, offer);
      // Until it was refused.
      peer.Read(0);
      ends.far_driver.DestroyEvent(event);
      ends.far_driver.Free(0, memory);
    });
  };
  offer([](DirectOffer&) {}, /*is_claimable=*/false);
  offer([](DirectOffer& o) { o.ticket = 64; });
  offer([](DirectOffer& o) { o.allocation_index = 64; });
  offer([](DirectOffer& o) { o.length = 0; });
  offer([](DirectOffer& o) { o.length = 101; });
  offer([](DirectOffer& o) { o.offset = 1; });
  offer([](DirectOffer& o) { o.offset = ~uint64_t{0}; });
  offer([](DirectOffer& o) { o.memory_handle[0] = '!'; });
  offer([](DirectOffer& o) { o.event_handle[0] = '!'; });
  offer([](DirectOffer& o) { o.claims[0] = '!'; });
  offer([](DirectOffer& o) { SetText(o.claims, "1/2/3"); });
  ExpectRefusedBytes(Kind::kDirect, 0, "00");
  ExpectRefusedBytes(Kind::kDirect, 1, "00");
  ExpectRefused(Kind::kDirect, [](Ends&, RawPeer& peer) {
    peer.WriteStructAt(1, GpuHello());  // of another version
  });
  ExpectRefused(Kind::kDirect, [](Ends&, RawPeer& peer) {
    GpuHello hello;
    hello.version = GpuHello::kDirect;
    peer.WriteStructAt(1, hello);
    peer.WriteStructAt(1, DirectReply{7});  // to what was not offered
  });
}

TEST(CudaHostileTest, SharedMemoryIsOnlyWhatItsNameSays) {
  SharedMemory& memory = RealSharedMemory();
  auto segment = *memory.Create(8192);
  const std::string name = segment->name();
  segment->data()[8191] = 'x';
  EXPECT_EQ((*memory.Open(name, 8192))->data()[8191], 'x');
  EXPECT_FALSE(memory.Open(name, 4096).ok());
  std::string other = name;
  other.back() = other.back() == '0' ? '1' : '0';
  EXPECT_FALSE(memory.Open(other, 8192).ok());
  for (const char* bad : {"", "1", "1/2", "self/0/", "-1/0/0", "1/0/0/0"}) {
    EXPECT_FALSE(memory.Open(bad, 8192).ok()) << bad;
  }
  segment = nullptr;
  EXPECT_FALSE(memory.Open(name, 8192).ok());
  EXPECT_LE(name.size(), SharedMemory::kMaxNameBytes);
  EXPECT_TRUE(memory.IsAlive(memory.ProcessName()));
  EXPECT_FALSE(memory.IsAlive(memory.ProcessName() + "1"));
  EXPECT_FALSE(memory.IsAlive("0/0"));
  EXPECT_FALSE(memory.IsAlive(""));
}

}  // namespace
}  // namespace reprise
