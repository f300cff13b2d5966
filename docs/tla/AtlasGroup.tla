---------------------------- MODULE AtlasGroup ----------------------------
(* One group. Sequence-Paxos style log, flexible grid quorums over unequal   *)
(* zones, configuration version bound to the ballot (vertical reconfig) plus *)
(* the owner's stop-sign shortcut, and a node-epoch lease that blocks phase 1*)
(* Ballots are 1..MaxB; Cfg[b], Owner[b] give version and owner. Cfg[] is    *)
(* non-decreasing in b (version is the most significant ballot component).   *)
(* Brought in line with package consensus, see README.md: an acceptor's log  *)
(* is its own (alog), since Learn replaces entries without a vote; the       *)
(* stop-sign path adopts a log accepted in the new version if there is one;  *)
(* phase 1 skips the old version once the new one is established.            *)
EXTENDS Integers, Sequences, FiniteSets, TLC
CONSTANTS Nodes, MaxB, MaxLen, MaxE, Mut, Fabric
CONSTANTS Cfg, Owner, Confs      \* Cfg,Owner: [1..MaxB -> ..]; Confs: [1..NC -> [zones, fn, fz]]

Bal == 1..MaxB
None == [ba |-> -1, log |-> <<>>, est |-> 0]
SS == 0                            \* the stop-sign value; ordinary values are ballot numbers

FnOf(c,z)  == LET n == Cardinality(z) cap == (n-1) \div 2 IN IF Confs[c].fn < cap THEN Confs[c].fn ELSE cap
q1(c,z) == FnOf(c,z) + 1
q2(c,z) == Cardinality(z) - FnOf(c,z)
Members(c) == UNION Confs[c].zones
IsQ1(c,S) == Cardinality({z \in Confs[c].zones : Cardinality(S \cap z) >= q1(c,z)}) >= Cardinality(Confs[c].zones) - Confs[c].fz
IsQ2(c,S) == Cardinality({z \in Confs[c].zones : Cardinality(S \cap z) >= q2(c,z)}) >= Confs[c].fz + 1
AllNodes == UNION {Members(c) : c \in DOMAIN Confs}
Q1s == [c \in DOMAIN Confs |-> {S \in SUBSET AllNodes : IsQ1(c,S)}]
Q2s == [c \in DOMAIN Confs |-> {S \in SUBSET AllNodes : IsQ2(c,S)}]

VARIABLES prom, ba, alog, prm, acc, est,   \* acceptor state (durable); est: highest version known there to be established
          st, llog, sync, rel,             \* proposer state per ballot (durable by sync-before-send)
          ep, supA, supO, minE, fep        \* node liveness fabric, fortification
vars == <<prom,ba,alog,prm,acc,est,st,llog,sync,rel,ep,supA,supO,minE,fep>>
live == <<ep,supA,supO,minE>>

Init == /\ prom = [n \in Nodes |-> 0] /\ ba = [n \in Nodes |-> 0] /\ alog = [n \in Nodes |-> <<>>] /\ est = [n \in Nodes |-> 1]
        /\ prm = [b \in Bal |-> [n \in Nodes |-> None]]
        /\ acc = [b \in Bal |-> [n \in Nodes |-> -1]]
        /\ st = [b \in Bal |-> "none"] /\ llog = [b \in Bal |-> <<>>]
        /\ sync = [b \in Bal |-> -1] /\ rel = [b \in Bal |-> FALSE]
        /\ ep = [n \in Nodes |-> 0]
        /\ supA = [n \in Nodes |-> [o \in Nodes |-> 0]]
        /\ supO = [o \in Nodes |-> [n \in Nodes |-> 0]]
        /\ minE = [n \in Nodes |-> [o \in Nodes |-> 0]]
        /\ fep = [b \in Bal |-> [n \in Nodes |-> -1]]

HasSS(l) == \E i \in 1..Len(l) : l[i] = SS
\* length of the prefix of ballot b's log that is chosen at ballot b (-1: not even the sync)
ChosenLen(b) == IF sync[b] = -1 THEN -1 ELSE
   LET ok == {L \in 0..Len(llog[b]) : {n \in Nodes : acc[b][n] >= L} \in Q2s[Cfg[b]]}
   IN IF ok = {} THEN -1 ELSE CHOOSE L \in ok : \A M \in ok : M <= L
StopChosen(c) == \E b \in Bal : Cfg[b] = c /\ \E i \in 1..Len(llog[b]) : llog[b][i] = SS /\ ChosenLen(b) >= i

Blocked(n,b) == LET f == ba[n] IN
   /\ f # 0 /\ Owner[f] # Owner[b] /\ ~rel[f] /\ fep[f][n] # -1
   /\ supA[n][Owner[f]] = fep[f][n]
   /\ ~(Cfg[f] = 1 /\ Cfg[b] = 2 /\ HasSS(alog[n]))   \* its owner dropped the lease before it proposed the stop-sign
   /\ ~(\E c \in Bal : f < c /\ c < b /\ sync[c] # -1)   \* b's proposer may have the log of c, and show it
   /\ Mut # "noblock" /\ Fabric

Prepare(b) == /\ st[b] = "none"
              /\ \A c \in Bal : (Owner[c] = Owner[b] /\ c > b) => st[c] = "none"
              /\ st' = [c \in Bal |-> IF c = b THEN "prep" ELSE IF Owner[c] = Owner[b] /\ st[c] # "none" THEN "done" ELSE st[c]]
              /\ UNCHANGED <<prom,ba,alog,prm,acc,est,llog,sync,rel,fep>> /\ UNCHANGED live

Promise(b,n) == /\ st[b] # "none" /\ b > prom[n] /\ ~Blocked(n,b)
                /\ prom' = [prom EXCEPT ![n] = b]
                /\ prm' = [prm EXCEPT ![b][n] = [ba |-> ba[n], log |-> alog[n], est |-> est[n]]]
                /\ UNCHANGED <<ba,alog,acc,est,st,llog,sync,rel,fep>> /\ UNCHANGED live

Better(x,y) == x.ba > y.ba \/ (x.ba = y.ba /\ Len(x.log) >= Len(y.log))
DoWin(b, cand) == LET best == CHOOSE x \in cand : \A y \in cand : Better(x,y)
                  IN /\ llog' = [llog EXCEPT ![b] = best.log] /\ sync' = [sync EXCEPT ![b] = Len(best.log)]
                     /\ st' = [st EXCEPT ![b] = "won"]
                     /\ UNCHANGED <<prom,ba,alog,prm,acc,est,rel,fep>> /\ UNCHANGED live
\* Q1 of every version from the highest that a promise calls established, to the ballot's own (D2).
WinV(b) == /\ st[b] = "prep"
           /\ \E Q \in SUBSET {n \in Nodes : prm[b][n] # None} :
                /\ Q # {}
                /\ \A c \in 1..Cfg[b] : \/ Mut = "skipold" /\ c < Cfg[b]
                                       \/ \E n \in Q : prm[b][n].est > c
                                       \/ Q \in Q1s[c]
                /\ DoWin(b, {prm[b][n] : n \in Q})
\* Stop-sign path: the previous version is known to be stopped (D3). A log accepted in the new version if a promise has one,
\* else exactly the log up to the stop-sign: nothing after it can be chosen in the old version.
WinH(b) == /\ st[b] = "prep" /\ Cfg[b] = 2
           /\ \E p \in Bal : /\ Cfg[p] = 1
                /\ \E i \in 1..Len(llog[p]) : /\ llog[p][i] = SS /\ ChosenLen(p) >= i
                   /\ \E Q \in SUBSET {n \in Nodes : prm[b][n] # None} :
                        /\ Q \in Q1s[2]
                        /\ LET new == {prm[b][n] : n \in {m \in Q : prm[b][m].ba # 0 /\ Cfg[prm[b][m].ba] = 2}}
                           IN DoWin(b, IF new # {} THEN new ELSE {[ba |-> p, log |-> SubSeq(llog[p],1,i), est |-> 1]})

Append1(b,v) == /\ st[b] = "won" /\ Len(llog[b]) < MaxLen
                /\ ((Cfg[b] = 1 /\ HasSS(llog[b])) => Mut = "pastSS")
                /\ (v = SS => (Cfg[b] = 1 /\ 2 \in DOMAIN Confs))
                /\ llog' = [llog EXCEPT ![b] = Append(@,v)]
                /\ UNCHANGED <<prom,ba,alog,prm,acc,est,st,sync,rel,fep>> /\ UNCHANGED live

\* The whole prefix comes: AcceptSync never leaves a gap (D9), so which part of it travels does not matter here.
Accept(b,n,L) == /\ sync[b] # -1 /\ b >= prom[n] /\ n \in Members(Cfg[b])
                 /\ L \in sync[b]..Len(llog[b]) /\ (ba[n] < b \/ L > Len(alog[n]))
                 /\ prom' = [prom EXCEPT ![n] = b] /\ ba' = [ba EXCEPT ![n] = b] /\ alog' = [alog EXCEPT ![n] = SubSeq(llog[b],1,L)]
                 /\ acc' = [acc EXCEPT ![b][n] = L]
                 /\ fep' = [fep EXCEPT ![b][n] = IF Fabric /\ supA[n][Owner[b]] >= 0 THEN supA[n][Owner[b]] ELSE @]
                 /\ UNCHANGED <<prm,est,st,llog,sync,rel>> /\ UNCHANGED live

\* Chosen entries without a vote, to a laggard or to who does not vote at b. It raises prom, not ba; an end of the log that
\* differs is replaced.
IsPrefix(x,y) == Len(x) <= Len(y) /\ x = SubSeq(y,1,Len(x))
Learn(b,n,L) == /\ sync[b] # -1 /\ b >= prom[n] /\ L \in 1..ChosenLen(b) /\ ~IsPrefix(SubSeq(llog[b],1,L), alog[n])
                /\ prom' = [prom EXCEPT ![n] = b] /\ alog' = [alog EXCEPT ![n] = SubSeq(llog[b],1,L)]
                /\ UNCHANGED <<ba,prm,acc,est,st,llog,sync,rel,fep>> /\ UNCHANGED live
\* A node hears that the log adopted by a ballot of version c is chosen at it: c is established. It hears it from the owner, at b,
\* and so promises b: a node never answers a ballot of a version below the one that it calls established.
Establish(b,n) == /\ sync[b] # -1 /\ ChosenLen(b) >= sync[b] /\ est[n] < Cfg[b] /\ est' = [est EXCEPT ![n] = Cfg[b]]
                  /\ b >= prom[n] /\ prom' = [prom EXCEPT ![n] = b]
                  /\ UNCHANGED <<ba,alog,prm,acc,st,llog,sync,rel,fep>> /\ UNCHANGED live

Release(b) == /\ Fabric /\ st[b] = "won" /\ ~rel[b] /\ rel' = [rel EXCEPT ![b] = TRUE] /\ st' = [st EXCEPT ![b] = "done"]
              /\ UNCHANGED <<prom,ba,alog,prm,acc,est,llog,sync,fep>> /\ UNCHANGED live

\* liveness fabric: the clock assumption is exactly "supporter withdraws only after the requester stopped believing"
OLose(o,n) == /\ Fabric /\ supO[o][n] >= 0 /\ supO' = [supO EXCEPT ![o][n] = -1]
              /\ UNCHANGED <<prom,ba,alog,prm,acc,est,st,llog,sync,rel,fep,ep,supA,minE>>
AWithdraw(n,o) == /\ Fabric /\ supA[n][o] >= 0 /\ (supO[o][n] # supA[n][o] \/ Mut = "clock")
                  /\ minE' = [minE EXCEPT ![n][o] = supA[n][o] + 1] /\ supA' = [supA EXCEPT ![n][o] = -1]
                  /\ UNCHANGED <<prom,ba,alog,prm,acc,est,st,llog,sync,rel,fep,ep,supO>>
Bump(o) == /\ Fabric /\ ep[o] < MaxE /\ ep' = [ep EXCEPT ![o] = @ + 1]
           /\ supO' = [supO EXCEPT ![o] = [n \in Nodes |-> -1]]
           /\ UNCHANGED <<prom,ba,alog,prm,acc,est,st,llog,sync,rel,fep,supA,minE>>
Support(n,o) == /\ Fabric /\ supA[n][o] < ep[o] /\ ep[o] >= minE[n][o] /\ supA' = [supA EXCEPT ![n][o] = ep[o]]
                /\ UNCHANGED <<prom,ba,alog,prm,acc,est,st,llog,sync,rel,fep,ep,supO,minE>>
OGain(o,n) == /\ Fabric /\ supO[o][n] = -1 /\ supA[n][o] = ep[o] /\ supO' = [supO EXCEPT ![o][n] = ep[o]]
              /\ UNCHANGED <<prom,ba,alog,prm,acc,est,st,llog,sync,rel,fep,ep,supA,minE>>

Owners == {Owner[b] : b \in Bal}
Next == \/ \E b \in Bal : Prepare(b) \/ WinV(b) \/ WinH(b) \/ Release(b)
        \/ \E b \in Bal : \E v \in {b, SS} : Append1(b,v)
        \/ \E b \in Bal, n \in Nodes : Promise(b,n) \/ Establish(b,n)
        \/ \E b \in Bal, n \in Nodes, L \in 0..MaxLen : Accept(b,n,L) \/ Learn(b,n,L)
        \/ \E o \in Owners, n \in Nodes : OLose(o,n) \/ AWithdraw(n,o) \/ Support(n,o) \/ OGain(o,n)
        \/ \E o \in Owners : Bump(o)
Spec == Init /\ [][Next]_vars

Pref(b) == SubSeq(llog[b],1,ChosenLen(b))
Agreement == \A b,c \in Bal : (b < c /\ ChosenLen(b) > 0 /\ ChosenLen(c) >= 0) =>
                 IsPrefix(Pref(b),Pref(c)) \/ IsPrefix(Pref(c),Pref(b))
\* stronger: everything chosen below a won ballot is in that ballot's log
LeaderComplete == \A b,c \in Bal : (b < c /\ sync[c] # -1 /\ ChosenLen(b) > 0) => IsPrefix(Pref(b), llog[c])
LeaseHeld(b) ==
    /\ st[b] = "won"
    /\ ((Cfg[b] = 1 /\ Mut # "leaseSS") => ~HasSS(llog[b]))
    /\ \E X \in Q2s[Cfg[b]] : \A n \in X : supO[Owner[b]][n] = ep[Owner[b]] /\ fep[b][n] = ep[Owner[b]]
LeaseSafe == Fabric => \A b \in Bal : LeaseHeld(b) => \A c \in Bal : c > b => sync[c] = -1
\* What a node holds at the ballot at which it last accepted, nothing above promised, is that ballot's log.
LogIsOwners == \A n \in Nodes : (ba[n] # 0 /\ prom[n] = ba[n]) => IsPrefix(alog[n], llog[ba[n]])
Inv == Agreement /\ LeaderComplete /\ LeaseSafe /\ LogIsOwners
===========================================================================
