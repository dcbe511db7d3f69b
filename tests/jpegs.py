"""JPEGs of kinds that the tests' libraries do not write: one small picture, in base 85.

Made once by libjpeg-turbo 2.1 (`cjpeg -arithmetic`) and imagecodecs 2026.3 (`jpeg8_encode`).
"""

import base64

import numpy as np

_y, _x = np.mgrid[0:16, 0:24]
PICTURE = np.stack([_x / 23, _y / 15, (_x / 23 + 1 - _y / 15) / 2], axis=2) * 255
"""What they show, (16, 24, 3); "lossless, 16 bits" its first channel."""

_ENCODED = {
    "arithmetic": """
        |JeWF01!$>Nk#wx0RR9200961|JwjV00RO70|EjA0|NsD0|NvF2n7WM1O*BQ2L=cX3JeSj3JVJj4iXRz4iOFu3lJ
        6%5fc;@6%`B*7Z?^47!ni}6#v@*LjeN>1O)^I2?YfS6b%av6ciK`6ciK`6ciK`6ciK`6ciK`6ciK`6ciK`6ciK`6
        ciK`6ciK`6ciK`6ciK`6cqo-
        01*fP5C9kh0U`hb5di}c0sqVZ3IGrg1pyEd1^?Or3<CiG0ucid06zf#0Nj)%fyJ6}s^IsIK?QFq>tRibZZOv2#k5
        |TI+AHy-+KihwC+`7o2acr(%%07CM6lQ6^-{p5c}~>T7dU6lk(Q;d?|9k|Je
    """,
    "arithmetic, progressive": """
        |JeWF01!$>Nk#wx0RR9200961|JwjV00RO70|EjA0|NsD0|NvF2n7WM1O*BQ2L=cX3JeSj3JVJj4iXRz4iOFu3lJ
        6%5fc;@6%`B*7Z?^47!ni}6#v@*LjeN>1O)^I2?YfS6b%av6ciK`6ciK`6ciK`6ciK`6ciK`6ciK`6ciK`6ciK`6
        ciK`6ciK`6ciK`6ciK`6cqo;01*fP5C9kh0U`hb5di}c0sqVZ1^^HN5dYc$3<CiG0uTcb000610J$A6XyDvqB<Q8
        ;p!}xr|I7dc5C#9*00;pA009L86)Cf!&NXcEYHQG7|I7dc5e5I+00;pC0RcY&7B8{$3!p29WuX7e00a>Q|Jncu0R
        jO5KLHwy{)2gOOxJ+_%m4%s1^?Or2mt{A20sE`6Y~Ge00a;P|Jncu0RaF3KOxtFA<uyS+5ij#0RRF30{{R35IL~_
        %m4%t1^?Or2mu2D0Y4DadjHG-1Q7-Q+5iXv0s#R(5L7t7SAhS_00a;P|Jncu0RaF3KM<>g)hv#@D)=z}*#
    """,
    "lossless": """
        |JeWT01iQ9Z(?NtWB>pF0095P01*fP5C9khQV{@05dcCF0RO}Q7ytkR0RaF20000000000000031O*8H+5ij#QUF
        H)LI42(0O$UHD;rqq#@0HqwhpXqW2+lj>c-YOvDJ;Nbz^HCVA{u4HnG)>tZ}0?W2+lj>c-
        YO!L^R8ZDXq&Sn9`CHnG)>taW2-
        9a!4ORyMKKjWlMgbz`d=Sn9^uI<d8mtZief8(8YcRyMKKjjVNpYaLkH$5uA6#*FojtZief8(8ZG);h7Zj;w8Cs~u
        R{$5uA6)s3)qV{08)+Q(Kn(Vnrjj;w8Cs~ceI#@0HqwT`T9W2+rl+Q(KlvDOW&bz^HCSlY)LGgdmWwT`T9W2_rk>
        c-
        YOv9*q@bz^HCSlY){Ho?`6taW2+9az&wYR6VOv9*q@ZG)>DSn9^sI<d8mtaW2+9a!4OST?cMjjVNJYaD3LSn9^sI
        <d8mux(?j8(8Yb);h7(jjVNJYaLkI2Ua$*)s3umV@(<B8(8Yb);h7a4y<iss~cGA#@0Hq)s3umV{08?+Q(KlvDJ;
        NaicY3s~cGA#@0H)wT`T9W2+lj>c>_#vDJ;Nbz^KDSlY){HnG)>G-s@BW2+lj>c-
        eQv9*q@ZDXq&Sn9`CHnG)>taXEH9a!4ORyMK5jMa{;ZDXq&SnCGXI<d8mtZief9a!4ORyMKKjj(lNYaLkH$5uGen
        z7Z6tZief8(`|j);h7Zj;w8Cs~uR{$5uA6)(xz6V{08)+Q%9*);h7Zj;w8CtQ%PB#@0HqwT`THV{08)+Q(Kl!PSk
        dbz^HCSkp#o$5uMAwT`T9gR2`@>c-YOv9*q@bz^HCSlY)}HnG)>taW2+9B9v2>c-
        YOv9*q{ZDXq&Sn9^sI<eJ_taW2+9a!53RyMKKjjVNJzyH|
    """,
    "12 bits": """
        |JeWF01!$>Nk#wx0RR9200961|JwjV00smF1_cBL1_cHO2L=cV5DE$j2?`Vr4-
        60&6c`v66c!d59VH(c8zUSR79cDjBPJ&)Dk&KsEif%8FeNA{DF534LjeZ|2MP!Z6AB6wC>j<TC@3f>C@3f>C@3f>
        C@3f>C@3f>C@3f>C@3f>C@3f>C@3f>C@3f>C@3f>C@3f>C@BBI01*rT5C9kh0U`hb5di}c0sq7R761VO0RR91000
        0000000000UA3;)Cb8xQ~h2LS*80000000000000093MMr~QsMu^02cuO0|5X40000000000000072nh@S!~iJ~0
        00664*>uG000000000001720VWR;81O^8P2_z>nH9}Hx;iCWA01N{G00I#M5dc2`$ym3O;TF-
        &eg#Tf$?%J4=D!1DE#&w`v~yp9QWo-
        jBHB5xz&)cwon%-Z`Xo(?rWw=Hym$1_CkuH#5p5jT;D*5Eyq^fRj%)Bi<C~{CxkXqW`ZWcq`G#=XNR|6!4Ils6
    """,
    "lossless, 16 bits": """
        |JeWF01!$>Nk#wx0RR9200961|HA+a5C9MW7y$th0RO}Q761VO0RR910000000000000aC5dYc$2mt{A0RRBYAz2
        d0Rzk8RkgSDdOCebb$d*E~C6KIzWJ@7g3doj1vK5gmhFJ>8mO`=>kt~H|D<WA6$W}zM6_G53WGf<B3dmMOvK5f5i
        DWX!Rz$KDkgSPhD<N4D$W}tKC6KI%WGf+A63A9UvL%qLg=9-
        1mO`>6kgSDdOCebb$d*E~6_G53WJ@7g3doj1vK5gmg=8xtSq!ojkt~H|D<WA6$W}zM6_BinWGf<B3dmMOvK5f5iD
        WAwSrW))kgSPhD<N4D$W}tKC6KIzWJ@7g63A9UvL%qLg=9-
        1SqjLOLo9`4OCebb$d*E~6_G53WGf<B3doj1vK5gmg=8xtSqjKjM6wxVD<WA6$W}zM6_BinWGf+A63A9WvK5f5iD
        WAwSrW)rLb4^0%OP13$W}tKC6KIzWJ@7g3doj1vL%qLg=9-
        1SqjLOLb4T+EQVPM$d*E~6_G53WGf<B3dmMOvK5gmg=8xtSqjKjM6wl-tcheY$W}zM6_BinWGf+A63A9UvL%qLiD
        WAwSrW)rLb4^0tc7GtA(le2C6KIzWJ@7g3doj1vK5gmg=9-
        1SqjLOLb4T+EQMq%B3TTw6_G53WGf<B3dmMOvK5f5iDWAxSqjKjM6wl-tcheRAz2d0Wst0iWGf+A63A9UvL%qLg=
        9-
        1SrW)rLb4^0tc7GtAz2E@mP0IsWJ@7g3doj1vK5gmg=8xtSqjLOLb4T+EQMq%B3TN^Rz$KHWGf<B3dmMOvK5f5iD
        WAwSrW)rM6wl-tcheRAz2d0Rzk8RkpBSx*#
    """,
}

JPEGS = {name: base64.b85decode("".join(text.split())) for name, text in _ENCODED.items()}
